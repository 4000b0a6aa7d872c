"""`init`: weights of another run, what of them fits, and which have seen too much."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.task import main

FLAGS = ("model.backbone=small-cnn", "train.epochs=1", "train.batch_size=8")
# What was taken over stays as it was, so that predictions show it.
STILL = ("optimizer.learning_rate=1e-12", "stage={freeze = 'backbone'}")


def train(folder, run, *overrides, folds="0", records="records"):
    flags = [flag for text in (*FLAGS, *overrides) for flag in ("--set", text)]
    words = ["--records", f"{folder}/{records}", "--run", str(run), "--folds", folds]
    return main([*words, *flags])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of three folds, and `first`: fold 0 of a run whose averages predict."""
    folder = tmp_path_factory.mktemp("init")
    write_toy_records(folder / "records", rows=48, parts=("fold0", "fold1", "fold2"))
    assert train(folder, folder / "first", "optimizer.ema_decay=0.5") == 0
    return folder


@pytest.fixture
def first(folder, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(folder / "first", tmp_path / "first")


def test_a_source_that_was_trained_again_is_noticed(folder, first, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(folder, run, *STILL, f"init={first}") == 0
    assert train(folder, run, *STILL, f"init={first}") == 0
    assert "fold 0 is complete: skipped" in capsys.readouterr().out
    before = logits(run)
    shutil.rmtree(first)
    assert train(folder, run, *STILL, f"init={first}") == 0  # complete, and needs it no more
    assert "fold 0 is complete: skipped" in capsys.readouterr().out
    assert train(folder, first, "optimizer.ema_decay=0.5", "train.seed=5") == 0
    assert train(folder, run, *STILL, f"init={first}") == 0
    printed = capsys.readouterr().out
    assert "the run that it starts from was trained again since it was trained" in printed
    assert np.abs(logits(run) - before).max() > 1e-3


def logits(run, column="logit_malignant"):
    return read_predictions(str(run)).frame[column].to_numpy()


def test_a_fold_starts_from_the_weights_that_the_others_predicted_with(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run", *STILL, f"init={folder}/first") == 0
    assert f"starts from the weights of {folder}/first/fold0\n" in capsys.readouterr().out
    np.testing.assert_allclose(logits(tmp_path / "run"), logits(folder / "first"), atol=1e-5)
    assert "selected_on" not in read_predictions(str(tmp_path / "run")).run


def test_metadata_is_added_to_an_image_only_network_which_gives_the_same_at_first(
    folder, tmp_path, capsys
):
    film = ("model.fusion=film", "model.fusion_units=[4]", "model.fusion_dropout=0")
    assert train(folder, tmp_path / "run", *STILL, *film, f"init={folder}/first/fold0") == 0
    printed = capsys.readouterr().out
    assert "new are fusion_dense_0 (no such layer), " in printed
    assert "target" not in printed
    np.testing.assert_allclose(logits(tmp_path / "run"), logits(folder / "first"), atol=1e-5)


def test_a_head_of_another_shape_stays_new_and_it_is_said(folder, tmp_path, capsys):
    fused = ("model.fusion=concat", "model.fusion_units=[4]")
    assert train(folder, tmp_path / "run", *STILL, *fused, f"init={folder}/first") == 0
    assert "target (another shape)\n" in capsys.readouterr().out


def other_records(folder, path, **changes):
    """The same images under another plan or with other classes."""
    shutil.copytree(folder / "records", path / "other")
    tables = json.loads((path / "other/manifest.json").read_text())
    (path / "other/manifest.json").write_text(json.dumps({**tables, **changes}))
    return str(path / "other")


def test_a_head_of_other_classes_stays_new_though_its_shape_fits(folder, tmp_path, capsys):
    label = json.loads((folder / "records/manifest.json").read_text())["label"]
    label = {**label, "classes": ["benign", "atypical"], "positive": ["atypical"]}
    parts = json.loads((folder / "records/manifest.json").read_text())["parts"]
    for part in parts:
        part["classes"]["atypical"] = part["classes"].pop("malignant")
    records = other_records(folder, tmp_path, label=label, parts=parts)
    init = (f"init={folder}/first",)
    assert train("", tmp_path / "run", *STILL, *init, records=records.lstrip("/")) == 0
    assert "target (other classes)\n" in capsys.readouterr().out


def refused(capsys, folder, run, *overrides, **where):
    assert train(folder, run, *overrides, **where) == 2
    assert not run.exists()
    return capsys.readouterr().err


def test_weights_that_have_seen_the_validation_rows_are_refused_or_said(folder, tmp_path, capsys):
    run, init = tmp_path / "run", f"init={folder}/first/fold0"
    error = refused(capsys, folder, run, init, folds="1")
    assert (
        f"fold 1: init must be weights that have not seen its validation rows, got {folder}/"
        in (error)
    )
    assert (
        "which was trained on fold1; name the run alone for its same fold, or set init_a" in error
    )
    assert train(folder, run, init, "init_any_fold=true", folds="1") == 0
    assert read_predictions(str(run)).run["selected_on"] == ["fold1"]
    assert "selected on fold1" in capsys.readouterr().out


def test_weights_of_another_plan_are_refused(folder, tmp_path, capsys):
    records = other_records(folder, tmp_path, plan_digest="other").lstrip("/")
    init = f"init={folder}/first"
    error = refused(capsys, "", tmp_path / "run", init, records=records)
    assert "of records of another plan, whose rows cannot be told from these" in error


def test_what_the_other_run_started_from_is_not_trusted_for_other_rows(
    folder, first, tmp_path, capsys
):
    text = (first / "config.toml").read_text()
    text = text.replace("init_any_fold = false", 'init = "elsewhere"\ninit_any_fold = true')
    (first / "config.toml").write_text(text)
    error = refused(capsys, folder, tmp_path / "run", f"init={first}")
    assert "whose init = 'elsewhere' may hold rows of fold0" in error


def test_weights_that_were_chosen_on_the_same_rows_hand_that_on(folder, first, tmp_path):
    path = first / "fold0" / "predictions.parquet"
    chosen = read_predictions(str(path))
    chosen = dataclasses.replace(chosen, run={**chosen.run, "selected_on": ["fold0"]})
    write(path, chosen)
    assert train(folder, tmp_path / "run", f"init={first}") == 0
    assert read_predictions(str(tmp_path / "run")).run["selected_on"] == ["fold0"]


def write(path, predictions):
    from pipeline.predictions import write_predictions

    write_predictions(str(path), predictions)


def test_a_fold_that_is_not_there_another_backbone_and_the_run_itself_are_refused(
    folder, tmp_path, capsys
):
    run, init = tmp_path / "run", f"init={folder}/first"
    error = refused(capsys, folder, run, init, folds="1")
    assert "fold 1: init must be a complete fold, as RUN or RUN/fold0, got" in error
    assert f"there is no {folder}/first/fold1/predictions.parquet" in error
    error = refused(capsys, folder, run, init, "model.backbone=conv-64-32")
    assert "init must be of model.backbone 'conv-64-32', got" in error
    error = refused(capsys, folder, run, f"init={run}/fold0")
    assert "init must be of another run than this one" in error
