"""The phantom's table: SIIM-ISIC 2020's columns, an exact share of positives."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.phantom.table import (
    COLUMNS,
    SITES,
    chances_summing_to,
    choose_malignant,
    make_rows,
    write_csv,
)


def make(patients=120, seed=7, positive_share=0.2, images_per_patient=8.0):
    return make_rows(
        patients=patients,
        seed=seed,
        positive_share=positive_share,
        images_per_patient=images_per_patient,
    )


@pytest.fixture(scope="module")
def rows():
    return make()


@pytest.fixture(scope="module")
def csv_path(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "train.csv"
    write_csv(path, rows)
    return path


def test_the_csv_has_the_columns_of_siim_2020_in_their_order(csv_path):
    header = (
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,"
        "diagnosis,benign_malignant,target"
    )
    assert csv_path.read_text().splitlines()[0] == header == ",".join(COLUMNS)


def test_the_csv_is_spelt_as_the_real_one(csv_path, real_data):
    real = pd.read_csv(real_data / "siim2020" / "train.csv", dtype=str, keep_default_na=False)
    drawn = pd.read_csv(csv_path, dtype=str, keep_default_na=False)
    assert list(drawn.columns) == list(real.columns)
    for column in COLUMNS[2:]:
        assert set(drawn[column]) <= set(real[column]), column
    for column in COLUMNS[:2]:
        shape = re.sub(r"\d", "0", real[column][0])
        assert set(drawn[column].str.replace(r"\d", "0", regex=True)) == {shape}


def test_label_diagnosis_and_target_say_the_same(csv_path):
    drawn = pd.read_csv(csv_path)
    malignant = drawn["target"] == 1
    assert ((drawn["benign_malignant"] == "malignant") == malignant).all()
    assert ((drawn["diagnosis"] == "melanoma") == malignant).all()


def test_image_names_are_unique_and_in_order(rows):
    names = [row.image_name for row in rows]
    assert names == sorted(set(names))


def test_all_patients_are_in_the_table(rows):
    assert len({row.patient_id for row in rows}) == 120
    assert {row.patient for row in rows} == set(range(120))


def test_images_a_patient_are_long_tailed_about_the_wanted_mean(rows):
    counts = pd.Series([row.patient for row in rows]).value_counts()
    assert counts.mean() == pytest.approx(8, rel=0.05)
    assert counts.median() < 0.8 * counts.mean()
    assert counts.min() >= 1
    assert 25 <= counts.max() <= 40


@pytest.mark.parametrize("share", [0.0, 0.018, 0.2, 0.5, 1.0])
def test_the_share_of_positives_is_exact(share):
    rows = make(positive_share=share)
    assert sum(row.malignant for row in rows) == round(share * len(rows))


def test_some_of_each_kind_of_metadata_is_missing_but_not_much(rows):
    for missing in (
        [row.sex == "" for row in rows],
        [row.age is None for row in rows],
        [row.site == "" for row in rows],
    ):
        assert 0.005 < np.mean(missing) < 0.05


def test_ages_are_steps_of_five_years_and_one_patient_ages_five_at_most(rows):
    frame = pd.DataFrame({"patient": [r.patient for r in rows], "age": [r.age for r in rows]})
    assert (frame["age"].dropna() % 5 == 0).all()
    spans = frame.groupby("patient")["age"].agg(lambda ages: ages.max() - ages.min())
    assert spans.max() == 5


def test_sites_are_the_ones_with_a_share():
    assert {row.site for row in make(patients=400)} == {*SITES, ""}


def test_another_seed_gives_another_table(rows):
    assert make(seed=7) == rows
    assert make(seed=8) != rows


@given(
    risk=st.lists(st.floats(-4, 4), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_exactly_the_wanted_number_is_malignant_whatever_the_risks(risk, share, seed):
    positives = round(share * len(risk))
    malignant = choose_malignant(np.random.default_rng(seed), np.array(risk), positives)
    assert malignant.sum() == positives


def test_chances_keep_the_ratio_of_odds():
    risk = np.array([-1.0, 0.0, 2.0])
    chances = chances_summing_to(1, risk)
    assert chances.sum() == pytest.approx(1)
    log_odds = np.log(chances / (1 - chances))
    np.testing.assert_allclose(np.diff(log_odds), np.diff(risk))


def test_a_higher_risk_is_chosen_as_often_as_its_chance():
    risk = np.repeat([0.0, 2.0], 50)
    draws = [choose_malignant(np.random.default_rng(seed), risk, 30) for seed in range(100)]
    shares = np.mean(draws, axis=0).reshape(2, 50).mean(axis=1)
    np.testing.assert_allclose(shares, chances_summing_to(30, risk)[[0, 50]], atol=0.02)
