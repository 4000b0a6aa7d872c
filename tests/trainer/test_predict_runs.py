"""`trainer.predict` with several runs, an ensemble, marks that carry over, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from pipeline.combine import read_ensemble
from pipeline.predictions import read_predictions, write_predictions
from pipeline.records.manifest import read_manifest, read_rows, write_manifest, write_rows
from records_factory import write_toy_records
from trainer.ensemble.__main__ import main as ensemble
from trainer.predict import main
from trainer.report.__main__ import main as report
from trainer.task import main as train

RECIPE = """
[model]
backbone = "small-cnn"
[optimizer]
learning_rate = 1e-2
[train]
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Records, a run `a` of images, a fused run `b`, and their stacking."""
    folder = tmp_path_factory.mktemp("runs")
    write_toy_records(folder / "records", rows=48, parts=("fold0", "fold1", "holdout"))
    (folder / "recipe.toml").write_text(RECIPE)
    for name, flags in (("a", []), ("b", ["model.fusion=concat", "train.seed=1"])):
        words = ["--records", f"{folder}/records", "--run", f"{folder}/{name}"]
        words += ["--config", f"{folder}/recipe.toml"]
        assert train([*words, *(word for flag in flags for word in ("--set", flag))]) == 0
    words = [f"{folder}/a", f"{folder}/b/predictions.parquet", "--method", "stacking"]
    assert ensemble([*words, "--output", f"{folder}/stacked.parquet"]) == 0
    return folder


def words_of(home, *flags, runs="ab"):
    named = [word for run in runs for word in ("--run", f"{home}/{run}")]
    return [*named, "--records", f"{home}/records", *map(str, flags)]


def copied(home, tmp_path, name="a"):
    shutil.copytree(home / name, tmp_path / name)
    return tmp_path / name


def test_an_ensemble_is_applied_to_its_members_predictions(home, tmp_path):
    words = words_of(home, "--part", "holdout", "--ensemble", home / "stacked.json", runs="")
    words += ["--output", f"{tmp_path}/out.parquet", "--submission", f"{tmp_path}/out.csv"]
    assert main(words) == 0
    members = [read_predictions(f"{home}/{run}/predictions-holdout-1.parquet") for run in "ab"]
    chosen = read_ensemble(f"{home}/stacked.json")
    names = (f"{home}/a", f"{home}/b/predictions.parquet")
    assert chosen.members == names
    given = dict(zip(names, [member.probs for member in members], strict=True))
    found = read_predictions(f"{tmp_path}/out.parquet")
    np.testing.assert_allclose(found.probs, chosen.combine(given), rtol=1e-6)
    assert found.run["ensemble"] == "stacking"
    assert found.run["members"] == list(names)
    assert "selected_on" not in found.run
    submitted = pd.read_csv(tmp_path / "out.csv")
    assert submitted.columns.tolist() == ["image_name", "target"]
    np.testing.assert_allclose(submitted["target"], found.probs[:, 0], rtol=1e-6)


def test_several_runs_are_averaged_and_each_keeps_its_own_file(home, tmp_path):
    words = words_of(home, "--part", "holdout", "--output", tmp_path / "out.parquet")
    assert main(words) == 0
    members = [read_predictions(f"{home}/{run}/predictions-holdout-1.parquet") for run in "ab"]
    found = read_predictions(f"{tmp_path}/out.parquet")
    expected = np.mean([member.probs for member in members], axis=0)
    np.testing.assert_allclose(found.probs, expected, rtol=1e-6)


def test_weights_that_were_chosen_on_these_rows_are_said_to_be(home, tmp_path):
    words = words_of(home, "--ensemble", home / "stacked.json")
    assert main([*words, "--output", f"{tmp_path}/out.parquet"]) == 0
    assert read_predictions(f"{tmp_path}/out.parquet").run["selected_on"] == ["fold0", "fold1"]


def test_a_selected_run_stays_marked_for_the_rows_that_chose(home, tmp_path):
    run = copied(home, tmp_path)
    for fold in (0, 1):
        table = read_predictions(f"{run}/fold{fold}")
        about = {**table.run, "selected_on": [f"fold{fold}"]}
        marked = dataclasses.replace(table, run=about)
        write_predictions(f"{run}/fold{fold}/predictions.parquet", marked)
    words = ["--run", str(run), "--records", f"{home}/records"]
    assert main(words) == 0
    assert main([*words, "--part", "holdout"]) == 0
    own = read_predictions(f"{run}/predictions-oof-1.parquet").run
    other = read_predictions(f"{run}/predictions-holdout-1.parquet").run
    assert own["selected_on"] == ["fold0", "fold1"]
    assert "selected_on" not in other
    assert other["weights_selected_on"] == ["fold0", "fold1"]


def test_a_report_reads_what_is_predicted(home, tmp_path):
    assert main(words_of(home, "--part", "holdout", runs="a")) == 0
    file = f"{home}/a/predictions-holdout-1.parquet"
    assert report([file, "--output", f"{tmp_path}/report.html", "--draws", "20"]) == 0
    assert (tmp_path / "report.html").exists()


REFUSALS = {
    "unknown part": (
        2, ["--part", "holdot"], "--part must be one of oof, fold0, fold1, holdout, got 'holdot'",
    ),
    "unknown fold": (2, ["--folds", "7"], "--folds must be all, or among 0, 1, got '7'"),
    "unknown views": (2, ["--views", "flip"], "--views must be a number of 1 or more, or one of"),
    "no ops": (2, ["--views", "3"], r"the recipe must have [[augment]] ops to draw 3 views by"),
    "crops": (2, ["--views", "crops9"], "larger than the model's 32 px, got 32"),
    "trained on": (
        2, ["--part", "fold0", "--folds", "1"], "a fold must not have trained on it, got only",
    ),
    "not parquet": (2, ["--output", "out.csv"], "--output must end in .parquet"),
    "csv columns": (
        2, ["--submission", "s.csv", "--submission_columns", "id"], "there must be 2, of the id",
    ),
    "columns alone": (2, ["--submission_columns", "id,p"], "must be named with --submission"),
    "batch": (2, ["--batch_size", "0"], "--batch_size must be 1 or more, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_command_line_at_fault_is_told_before_tensorflow_starts(home, capfd, case):
    code, flags, message = REFUSALS[case]
    assert main(words_of(home, *flags, runs="a")) == code
    assert message in capfd.readouterr().err


def test_trainings_own_file_is_never_written_over(home, capfd):
    for file in ("a/predictions.parquet", "b/../a/fold1/predictions.parquet"):
        before = (home / file).read_bytes()
        assert main(words_of(home, "--output", home / file, runs="a")) == 2
        assert "must not be called as the file that training writes" in capfd.readouterr().err
        assert (home / file).read_bytes() == before


def test_runs_that_do_not_go_together_are_refused(home, tmp_path, capfd):
    assert main(words_of(home)) == 2
    assert "--output must be given for predictions of several runs" in capfd.readouterr().err
    assert main(words_of(home, "--output", "o.parquet", runs="aa")) == 2
    assert "each must be given once" in capfd.readouterr().err
    given = ("--ensemble", home / "stacked.json", "--output", "o.parquet")
    assert main(words_of(home, *given, runs="a")) == 2
    assert "--run must be given for each of the 2 members" in capfd.readouterr().err
    tables = json.loads((home / "stacked.json").read_text())
    (tmp_path / "moved.json").write_text(json.dumps({**tables, "members": ["x", "y"]}))
    given = ("--ensemble", tmp_path / "moved.json", "--output", "o.parquet")
    assert main(words_of(home, *given, runs="")) == 2
    assert "members must be run folders to predict, got 'x'" in capfd.readouterr().err
    (tmp_path / "other.json").write_text(json.dumps({**tables, "classes": ["mel"]}))
    given = ("--ensemble", tmp_path / "other.json", "--output", "o.parquet")
    assert main(words_of(home, *given)) == 1
    assert "kind and classes must be the models', binary of malignant" in capfd.readouterr().err


def test_a_run_that_is_not_there_or_not_complete_is_told(home, tmp_path, capfd):
    assert main(words_of(tmp_path, runs="a")) == 2  # records first: there are none
    words = ["--records", f"{home}/records"]
    assert main(["--run", str(tmp_path), *words]) == 2
    assert "--run must be a run folder, which has a config.toml" in capfd.readouterr().err
    run = copied(home, tmp_path)
    (run / "fold1/predictions.parquet").unlink()
    assert main(["--run", str(run), *words, "--folds", "0,1"]) == 1
    error = capfd.readouterr().err
    assert "folds must be complete to predict, got 1 not" in error
    assert "or name others with --folds (complete: 0)" in error
    (run / "fold0/predictions.parquet").unlink()
    assert main(["--run", str(run), *words]) == 2
    assert "there must be a complete fold, got none" in capfd.readouterr().err


def test_folds_that_are_not_complete_are_left_out_and_it_is_said(home, tmp_path, capfd):
    run = copied(home, tmp_path)
    (run / "fold1/predictions.parquet").unlink()
    words = ["--run", str(run), "--records", f"{home}/records"]
    for part, parts in (("oof", {"fold0"}), ("holdout", {"holdout"})):
        assert main([*words, "--part", part]) == 0
        assert f"{run}: left out, for they are not complete: folds 1\n" in capfd.readouterr().out
        found = read_predictions(f"{run}/predictions-{part}-1.parquet")
        assert ({*found.frame["part"]}, found.run["folds"]) == (parts, [0])


def test_runs_of_other_rows_for_lack_of_a_fold_are_refused_before_one_predicts(
    home, tmp_path, capfd
):
    run = copied(home, tmp_path)
    (run / "fold1/predictions.parquet").unlink()
    words = words_of(home, "--run", run, "--output", tmp_path / "out.parquet", runs="b")
    assert main(words) == 2
    error = capfd.readouterr().err
    assert "all runs must predict the same parts, got fold0 of" in error
    assert "beside fold0, fold1 of" in error


def test_a_fold_without_its_checkpoint_is_told(home, tmp_path, capfd):
    run = copied(home, tmp_path)
    shutil.rmtree(run / "fold0/checkpoints")
    words = ["--run", str(run), "--records", f"{home}/records", "--folds", "0"]
    assert main([*words, "--output", f"{tmp_path}/out.parquet"]) == 1
    assert "newest checkpoint must be whole" in capfd.readouterr().err


def test_records_that_the_run_cannot_read_are_told(home, tmp_path, capfd):
    def refused(name, *flags, run="a"):
        words = ["--run", f"{home}/{run}", "--records", f"{tmp_path}/{name}", *flags]
        return main(words), capfd.readouterr().err

    write_toy_records(tmp_path / "multiclass", kind="multiclass")
    code, error = refused("multiclass", "--part", "fold0")
    assert (code, "label must be that of" in error, "multiclass of nv" in error) == (1, True, True)

    write_toy_records(tmp_path / "small", size_px=24)
    code, error = refused("small", "--part", "fold0")
    assert (code, "records must be of 32 px or more, the model's size, got 24" in error) == (
        2,
        True,
    )

    manifest = read_manifest(f"{home}/records")
    shutil.copytree(home / "records", tmp_path / "other")
    write_manifest(f"{tmp_path}/other", dataclasses.replace(manifest, plan_digest="another"))
    code, error = refused("other")
    assert code == 2
    assert "--part oof: records must be those that" in error

    shutil.copytree(home / "records", tmp_path / "no_sex")
    write_rows(f"{tmp_path}/no_sex", read_rows(f"{home}/records").drop(columns="sex"))
    code, error = refused("no_sex", "--part", "holdout", run="b")
    assert code == 1
    assert "columns must be there that the models of" in error
    assert "got none named sex; make the records with them in [metadata]" in error


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_labels_of_several_classes_are_predicted_for_rows_without_one(tmp_path, kind):
    write_toy_records(tmp_path / "records", kind=kind, rows=32, parts=("train", "val"))
    parts = '[data]\ntrain = ["train"]\nvalidation = ["val"]\n'
    (tmp_path / "recipe.toml").write_text(parts + RECIPE)
    words = ["--records", f"{tmp_path}/records", "--run", f"{tmp_path}/run"]
    assert train([*words, "--config", f"{tmp_path}/recipe.toml"]) == 0
    assert main([*words, "--part", "val", "--views", "flips", "--average", "rank"]) == 0
    own = read_predictions(f"{tmp_path}/run/predictions-val-flips.parquet")
    assert own.probs.shape == (16, 3)
    assert {*own.frame["fold"]} == {-1}

    write_toy_records(tmp_path / "new", kind="none", parts=("unlabelled",), rows=8)
    manifest = read_manifest(f"{tmp_path}/new")
    write_manifest(f"{tmp_path}/new", dataclasses.replace(manifest, plan_digest="another"))
    words = ["--run", f"{tmp_path}/run", "--records", f"{tmp_path}/new", "--part", "unlabelled"]
    columns = "id,p" if kind == "multiclass" else "id,a,b,c"
    words += ["--submission", f"{tmp_path}/s.csv", "--submission_columns", columns]
    assert main([*words, "--average", "logit"]) == 0
    new = read_predictions(f"{tmp_path}/run/predictions-unlabelled-1.parquet")
    assert (new.targets == -1).all()
    assert len(pd.read_csv(tmp_path / "s.csv")) == 8


def test_records_of_another_plan_are_predicted_by_all_folds(home, tmp_path):
    write_toy_records(tmp_path / "new", kind="none", parts=("unlabelled",), rows=8)
    manifest = read_manifest(f"{tmp_path}/new")
    write_manifest(f"{tmp_path}/new", dataclasses.replace(manifest, plan_digest="another"))
    words = ["--run", f"{home}/a", "--records", f"{tmp_path}/new", "--part", "unlabelled"]
    assert main([*words, "--output", f"{tmp_path}/out.parquet"]) == 0
    found = read_predictions(f"{tmp_path}/out.parquet")
    assert (len(found.frame), found.run["folds"]) == (8, [0, 1])
    assert found.label.classes == ("benign", "malignant")
    assert (found.targets == -1).all()
