"""A recipe with further record sets: trained on, pinned, and refused where they leak."""

import json

import pytest

from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_rows
from pipeline.settings import load_toml
from records_factory import write_toy_records
from records_rewriter import rewrite, with_digests
from trainer.task import main

SMALL = ("model.backbone=small-cnn", "train.batch_size=8", "train.epochs=1")


@pytest.fixture
def folder(tmp_path):
    """A main set whose sources are numbered 0–39, and another's from 100 on."""
    write_toy_records(tmp_path / "main")
    with_digests(tmp_path / "main")
    write_toy_records(tmp_path / "other", rows=16, parts=("train",), seed=5)
    with_digests(tmp_path / "other", first=100)
    return tmp_path


def train(folder, *settings):
    every = (*SMALL, f"extra.records={folder}/other", *settings)
    overrides = [word for setting in every for word in ("--set", setting)]
    flags = ["--records", f"{folder}/main", "--run", f"{folder}/run", "--folds", "0"]
    return main([*flags, *overrides])


def test_extras_train_and_only_the_first_set_is_predicted(folder):
    settings = ("extra.weight=0.5", "data.sampling=balanced", "model.fusion=concat")
    assert train(folder, *settings) == 0
    line = json.loads((folder / "run/fold0/metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == (30 + 16) // 8
    predicted = read_rows(str(folder / "main"), ["row", "part"])
    rows = read_predictions(str(folder / "run/fold0")).frame["row"].tolist()
    assert sorted(rows) == predicted["row"][predicted["part"] == "fold0"].tolist()
    [extra] = load_toml(folder / "run/config.toml")["extra"]
    assert (extra["weight"], len(extra["digest"])) == (0.5, 64)


def test_an_extra_of_validation_images_stops_the_run_before_it_begins(folder, capsys):
    leaked = read_rows(str(folder / "main")).query("part == 'fold0'")["row"].iloc[0]
    rewrite(
        folder / "other",
        lambda example: {**example, "sha256": f"{leaked if example['row'] == 3 else 900:064x}"},
    )
    assert train(folder) == 2
    assert "fold0, got 1 of 16 (1 with the same source, 0 by dupl" in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_an_extra_of_held_out_images_is_refused_too(tmp_path, capsys):
    write_toy_records(tmp_path / "main", parts=("fold0", "fold1", "holdout"))
    with_digests(tmp_path / "main")
    write_toy_records(tmp_path / "other", rows=16, parts=("train",), seed=5)
    with_digests(tmp_path / "other")  # the first 16 rows of the other set
    held_out = read_rows(str(tmp_path / "main")).query("part == 'holdout'")["row"]
    inside = {*held_out[held_out < 16]}
    rewrite(
        tmp_path / "other",
        lambda example: {
            **example,
            "sha256": f"{example['row'] + (0 if example['row'] in inside else 500):064x}",
        },
    )
    assert train(tmp_path) == 2
    assert f"unseen parts holdout, got {len(inside)} of 16" in capsys.readouterr().err


def test_a_run_goes_on_with_the_extras_it_began_with_only(folder, capsys):
    assert train(folder) == 0
    rewrite(folder / "other", lambda example: {**example, "age_approx": 1.0})
    assert train(folder) == 2
    assert (
        "config must be what the run was started with, got other extra" in capsys.readouterr().err
    )


def test_a_digest_that_was_named_must_be_that_of_the_records(folder, capsys):
    assert train(folder, "extra.digest=0123") == 2
    assert "digest must be that of its records" in capsys.readouterr().err
