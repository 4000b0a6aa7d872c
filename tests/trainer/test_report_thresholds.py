"""`trainer.thresholds`: rates against scikit-learn, and thresholds that never see their fold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, fbeta_score

from trainer.thresholds import (
    CRITERIA,
    CUT_INTO,
    RATES,
    at_specificity,
    choose_threshold,
    choosing_folds,
    decide_out_of_fold,
    is_choosable,
)


def random_rows(seed, count=80, distinct_scores=12):
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.4).astype(float)
    target[:2] = 0, 1
    score = (rng.integers(distinct_scores, size=count) + 3 * target) / distinct_scores
    return target, score, rng


def judge(target, taken):
    """By scikit-learn."""
    return {
        "balanced accuracy": balanced_accuracy_score(target, taken),
        "F1": fbeta_score(target, taken, beta=1, zero_division=0),
        "F2": fbeta_score(target, taken, beta=2, zero_division=0),
    }


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_those_of_scikit_learn(seed):
    target, score, _ = random_rows(seed)
    taken = score > 0.6
    tn, fp, fn, tp = confusion_matrix(target, taken).ravel().astype(float)
    found = {name: float(rate(tp, fp, fn, tn)) for name, rate in RATES.items()}
    assert found == pytest.approx(
        {
            "sensitivity": (taken & (target == 1)).sum() / (target == 1).sum(),
            "specificity": (~taken & (target == 0)).sum() / (target == 0).sum(),
            **judge(target, taken),
        },
        rel=0,
        abs=1e-12,
    )


def test_what_the_rows_cannot_give_is_not_a_number():
    nothing = np.zeros(1)
    assert all(np.isnan(rate(nothing, nothing, nothing, nothing)).all() for rate in RATES.values())


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("seed", range(3))
def test_no_other_threshold_is_better_on_the_rows_that_choose(criterion, seed):
    target, score, _ = random_rows(seed)
    threshold = choose_threshold(target == 1, score, CRITERIA[criterion])
    every = [judge(target, score >= at)[criterion] for at in np.unique(score)]
    assert judge(target, score >= threshold)[criterion] == pytest.approx(max(every))
    assert threshold not in score


def test_a_specificity_asked_for_is_held_with_the_most_sensitivity():
    target, score, _ = random_rows(3)
    threshold = choose_threshold(target == 1, score, at_specificity(0.6))
    held = [at for at in np.unique(score) if (score[target == 0] < at).mean() >= 0.6]
    assert (score[target == 0] < threshold).mean() >= 0.6
    assert (score[target == 1] >= threshold).mean() == (score[target == 1] >= min(held)).mean()


@given(st.integers(0, 10**6))
def test_a_fold_does_not_choose_its_own_threshold(seed):
    target, score, rng = random_rows(seed)
    folds = np.arange(80) % 4
    _, before = decide_out_of_fold(target, score, folds, CRITERIA["F1"])
    here = folds == 2
    target[here], score[here] = rng.integers(2, size=20), rng.random(20)
    decisions, after = decide_out_of_fold(target, score, folds, CRITERIA["F1"])
    assert before[2] == after[2]
    np.testing.assert_array_equal(decisions[here], score[here] >= after[2])


def test_chance_gains_nothing_from_a_threshold_chosen_out_of_fold():
    # The same choice on all rows promises more than a half, though there is nothing to find.
    nested, unnested = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        target, score = rng.permutation(np.arange(60) % 2).astype(float), rng.random(60)
        taken, _ = decide_out_of_fold(target, score, np.arange(60) // 12, CRITERIA["F1"])
        threshold = choose_threshold(target == 1, score, CRITERIA["balanced accuracy"])
        nested.append(judge(target, taken)["balanced accuracy"])
        unnested.append(judge(target, score >= threshold)["balanced accuracy"])
    assert np.mean(nested) == pytest.approx(0.5, abs=0.03)
    assert np.mean(unnested) > 0.56


def test_rows_of_one_part_are_cut_by_group():
    groups = [f"IP_{row // 3}" for row in range(300)]
    folds = choosing_folds(pd.DataFrame({"fold": -1, "group": groups}))
    assert set(folds) == set(range(CUT_INTO))
    assert pd.Series(folds).groupby(groups).nunique().max() == 1
    own = pd.DataFrame({"fold": [0, 1], "group": ["a", "a"]})
    assert choosing_folds(own).tolist() == [0, 1]


def test_a_class_that_one_fold_holds_alone_cannot_be_chosen_on():
    folds = np.array([0, 0, 1, 1])
    assert is_choosable(np.array([0.0, 1.0, 0.0, 1.0]), folds)
    assert not is_choosable(np.array([0.0, 1.0, 0.0, 0.0]), folds)
