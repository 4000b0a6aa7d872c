"""`python -m trainer.ensemble`: alignment, the table, the file, and what it refuses."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.combine import logits_of, read_ensemble
from pipeline.predictions import read_predictions, write_predictions
from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.compare import main as compare
from trainer.ensemble.__main__ import main
from trainer.ensemble.methods import METHODS
from trainer.metrics import evaluate


def save(path, predictions, change=lambda frame: frame):
    write_predictions(
        str(path), dataclasses.replace(predictions, frame=change(predictions.frame.copy()))
    )
    return str(path)


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_the_mean_of_members_in_any_order_of_rows(tmp_path, capsys, label):
    first, second = toy_predictions(label, seed=1), toy_predictions(label, seed=2)
    members = [
        save(tmp_path / "a.parquet", first),
        save(tmp_path / "b.parquet", second, lambda frame: frame.sample(frac=1, random_state=0)),
    ]
    assert main([*members, "--output", str(tmp_path / "out.parquet")]) == 0
    combined = read_predictions(str(tmp_path / "out.parquet"))
    np.testing.assert_allclose(combined.probs, (first.probs + second.probs) / 2, rtol=1e-6)
    assert combined.frame["row"].is_monotonic_increasing
    table = capsys.readouterr().out
    assert "mean of 2" in table
    assert "12" in table


def test_logits_give_the_probabilities_back():
    probs = np.array([[0.0, 1.0, 0.25]])
    back = 1 / (1 + np.exp(-logits_of(probs, "multilabel")))
    np.testing.assert_allclose(back, probs, atol=1e-6)
    probs = np.array([[0.2, 0.5, 0.3]])
    np.testing.assert_allclose(np.exp(logits_of(probs, "multiclass")), probs, atol=1e-6)


def with_value(column, row, value):
    def change(frame):
        frame.loc[row, column] = value
        return frame

    return change


def without_two_rows(frame):
    return frame.drop(index=[3, 8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_value("target", [4, 7], [1, 0]), r"targets must be equal, got 2 rows .*first row 4"),
        (with_value("fold", 9, 2), r"folds must be equal, got 1 rows .*first row 9"),
        (with_value("id", 5, "ISIC_OTHER"), r"got 1 rows only in \S*b.parquet \(first row 5\)"),
        (without_two_rows, r"got 2 rows only in \S*a.parquet \(first row 3"),
    ],
    ids=["target", "fold", "id", "missing"],
)
def test_members_that_do_not_fit_together_are_refused_by_row(tmp_path, capfd, change, message):
    members = [
        save(tmp_path / "a.parquet", toy_predictions()),
        save(tmp_path / "b.parquet", toy_predictions(seed=1), change),
    ]
    assert main([*members, "--output", str(tmp_path / "out.parquet")]) == 1
    error = capfd.readouterr().err
    assert re.search(message, error), error
    assert "ISIC_" not in error
    assert not (tmp_path / "out.parquet").exists()


def test_an_unknown_method_names_the_nearest(tmp_path, capfd):
    member = save(tmp_path / "a.parquet", toy_predictions())
    code = main([member, "--method", "maen", "--output", str(tmp_path / "o.parquet")])
    assert code == 2
    assert "did you mean 'mean'?" in capfd.readouterr().err


def test_a_missing_run_is_told(tmp_path, capfd):
    assert main([str(tmp_path), "--output", str(tmp_path / "o.parquet")]) == 1
    assert "no such file; give a run folder" in capfd.readouterr().err


def test_a_file_that_is_no_run_is_told(tmp_path, capfd):
    (tmp_path / "README.md").write_text("# runs")
    assert main([str(tmp_path / "README.md"), "--output", str(tmp_path / "o.parquet")]) == 1
    assert "no such file; give a run folder" in capfd.readouterr().err


@pytest.mark.parametrize("again", ["run/", "run/predictions.parquet"])
def test_a_run_given_twice_is_refused(tmp_path, capfd, again):
    save(tmp_path / "run" / "predictions.parquet", toy_predictions())
    members = [str(tmp_path / "run"), f"{tmp_path}/{again}"]
    assert main([*members, "--output", str(tmp_path / "o.parquet")]) == 2
    assert f"each must be given once, got {members[1]} again" in capfd.readouterr().err


def test_a_member_is_not_written_over(tmp_path, capfd):
    member = save(tmp_path / "a.parquet", toy_predictions())
    assert main([member, "--output", member]) == 2
    assert "must not be a member's own" in capfd.readouterr().err


@pytest.mark.parametrize("module", ["trainer.ensemble", "trainer.predict", "trainer.task"])
def test_help_starts_no_tensorflow(module):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as leaving:\n"
        "    assert leaving.code == 0\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout


def run_ensemble(tmp_path, *flags, label=BINARY, members=3, rows=60):
    """Three members of one label combined into `out.parquet`: their predictions, and exit code."""
    tables = [toy_predictions(label, rows, 3, seed) for seed in range(members)]
    files = [save(tmp_path / f"m{place}.parquet", table) for place, table in enumerate(tables)]
    return tables, files, main([*files, *flags, "--output", str(tmp_path / "out.parquet")])


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
@pytest.mark.parametrize("method", METHODS)
def test_the_file_of_an_ensemble_scores_other_rows(tmp_path, method, label):
    tables, files, code = run_ensemble(tmp_path, "--method", method, label=label)
    assert code == 0
    ensemble = read_ensemble(str(tmp_path / "out.json"))
    assert ensemble.method == method
    probs = ensemble.combine(dict(zip(files, [table.probs for table in tables], strict=True)))
    if method in ("mean", "geometric"):  # nothing is chosen: the same for all rows
        written = read_predictions(str(tmp_path / "out.parquet")).probs
        np.testing.assert_array_equal(probs.astype(np.float32), written)
    assert np.isfinite(probs).all()


def test_the_table_shows_what_choosing_flatters(tmp_path, capsys):
    _, _, code = run_ensemble(tmp_path, "--method", "optimal")
    out = capsys.readouterr().out
    assert code == 0
    assert "on what chose it" in out
    assert re.search(r"optimal of 3 +0\.\d{4} +0\.\d{4} +0\.\d{4} +0\.\d{4}\n", out), out
    result = re.search(r"result: auc (0\.\d{4})", out)[1]
    written = read_predictions(str(tmp_path / "out.parquet"))
    assert result == f"{evaluate(written)['auc']:.4f}"
    assert written.run["chosen_on"] == "folds"


def test_members_selected_on_a_part_make_an_ensemble_that_is(tmp_path, capsys):
    chosen = dataclasses.replace(toy_predictions(seed=1), run={"selected_on": ["fold0"]})
    members = [
        save(tmp_path / "a.parquet", toy_predictions()),
        save(tmp_path / "b.parquet", chosen),
    ]
    assert main([*members, "--output", str(tmp_path / "out.parquet")]) == 0
    assert "mean of 2: selected on fold0" in capsys.readouterr().out
    assert read_predictions(str(tmp_path / "out.parquet")).run["selected_on"] == ["fold0"]
    flags = ["--method", "rank", "--output", str(tmp_path / "out.parquet")]
    assert main([*members, *flags]) == 0
    result = capsys.readouterr().out.partition("result: ")[2]
    assert "too high: fold0 chose while members were trained" in result


@pytest.mark.parametrize("aggregate", ["group:mean", "group:max"])
def test_patients_are_scored_as_one_when_asked(tmp_path, capsys, aggregate):
    def by_patient(frame):
        return frame.assign(target=frame["row"] // 6 % 2)

    table = toy_predictions(rows=60)
    member = save(tmp_path / "a.parquet", table, by_patient)
    flags = ["--aggregate", aggregate, "--output", str(tmp_path / "out.parquet")]
    assert main([member, *flags]) == 0
    frame = by_patient(table.frame)
    groups = frame.groupby("group").agg(
        {"target": "max", "prob_malignant": aggregate.partition(":")[2]}
    )
    wanted = roc_auc_score(groups["target"], groups["prob_malignant"])
    assert f"result: auc {wanted:.4f}" in capsys.readouterr().out


def as_test_part(frame):
    ids = [f"TEST_{row}" for row in frame["row"]]
    return frame.assign(id=ids, part="test", fold=-1, target=-1)


def test_a_submission_is_scored_by_the_ensemble_of_all_folds(tmp_path):
    tests = [toy_predictions(seed=10 + place) for place in range(3)]
    files = [
        save(tmp_path / f"t{place}.parquet", table, as_test_part)
        for place, table in enumerate(tests)
    ]
    file = tmp_path / "submission.csv"
    flags = ["--method", "greedy", "--submission", str(file), "--apply_to", *files]
    _, members, code = run_ensemble(tmp_path, *flags)
    assert code == 0
    table = pd.read_csv(file)
    assert list(table) == ["image_name", "target"]
    assert table["image_name"].tolist() == [f"TEST_{row}" for row in range(12)]
    by_name = dict(zip(members, [table.probs for table in tests], strict=True))
    wanted = read_ensemble(str(tmp_path / "out.json")).combine(by_name)[:, 0]
    np.testing.assert_allclose(table["target"], wanted, rtol=1e-6)


def test_a_submission_may_be_of_a_part_of_the_members(tmp_path):
    def last_are_test(frame):
        is_test = frame["row"] >= 8
        frame.loc[is_test, ["part", "fold", "target"]] = ["test", -1, -1]
        return frame

    files = [
        save(tmp_path / f"m{seed}.parquet", toy_predictions(MULTICLASS, seed=seed), last_are_test)
        for seed in range(2)
    ]
    file = tmp_path / "s.csv"
    flags = ["--output", str(tmp_path / "out.parquet"), "--submission", str(file)]
    assert main([*files, *flags, "--submission_columns", "id,score"]) == 0
    table = pd.read_csv(file)
    assert list(table) == ["id", "score"]
    members = [read_predictions(name).probs[8:, 1:].sum(axis=1) for name in files]
    np.testing.assert_allclose(table["score"], np.mean(members, axis=0), rtol=1e-6)


def test_rows_that_chose_are_left_out_of_the_file(tmp_path):
    def given(frame):
        frame["part"] = np.where(frame["row"] < 30, "val", "holdout")
        return frame.assign(fold=-1)

    files = [
        save(tmp_path / f"m{seed}.parquet", toy_predictions(rows=60, seed=seed), given)
        for seed in range(2)
    ]
    flags = ["--method", "stacking", "--select_on", "val"]
    assert main([*files, *flags, "--output", str(tmp_path / "out.parquet")]) == 0
    written = read_predictions(str(tmp_path / "out.parquet"))
    assert set(written.frame["part"]) == {"holdout"}
    assert written.run["chosen_on"] == "val"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--metric", "acu"], 2, "did you mean 'auc'?"),
        (["--aggregate", "group:median"], 2, "did you mean 'group:mean'?"),
        (["--weights", "1,2,3"], 2, "the method must be weighted, got mean"),
        (["--method", "weighted", "--weights", "1,2"], 2, "there must be 3 of 0 or more"),
        (["--method", "weighted", "--weights", "1,-1,1"], 2, "there must be 3 of 0 or more"),
        (["--part", "test"], 2, "the CSV to write must be named"),
        (["--submission", "s.csv"], 1, "members must predict part 'test', got fold0, fold1, fold2"),
        (["--submission", "s.csv", "--apply_to", "a.parquet"], 2, "a file for each of the 3"),
        (["--submission", "s.csv", "--submission_columns", "id"], 2, "there must be 2, of the id"),
        (["--select_on", "val"], 2, "unknown part 'val'; known are fold0, fold1, fold2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path, capfd, flags, code, message
):
    assert run_ensemble(tmp_path, *flags)[2] == code
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
    assert not (tmp_path / "out.json").exists()


def test_one_id_in_different_given_parts_is_refused(tmp_path, capfd):
    def in_part(part):
        return lambda frame: frame.assign(fold=-1, part=part)

    members = [
        save(tmp_path / "a.parquet", toy_predictions(), in_part("val")),
        save(tmp_path / "b.parquet", toy_predictions(seed=1), in_part("test")),
    ]
    assert main([*members, "--output", str(tmp_path / "out.parquet")]) == 1
    assert "parts must be equal, got 12 rows in another part" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.assign(id="x"), "id must be unique, got 11 repeated"),
        (with_value("prob_malignant", 2, np.nan), r"must be finite, got 1 rows .*first row 2"),
        (lambda frame: frame[frame["fold"] != 2], "got 4 rows only in .*, all of its fold 2"),
        (lambda frame: frame.iloc[:0], "b.parquet: predictions must have rows, got none"),
    ],
    ids=["repeated ids", "NaN", "a fold less", "empty"],
)
@pytest.mark.parametrize("program", [main, compare], ids=["ensemble", "compare"])
def test_a_file_at_fault_is_one_line(tmp_path, capfd, monkeypatch, program, damage, message):
    good = save(tmp_path / "a.parquet", toy_predictions())
    monkeypatch.setattr("pipeline.predictions.check_predictions", lambda *_: None)
    bad = save(tmp_path / "b.parquet", toy_predictions(seed=1), damage)
    monkeypatch.undo()
    output = ["--output", str(tmp_path / "out.parquet")] if program is main else ["--draws", "5"]
    assert program([good, bad, *output]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "out.parquet").exists()


def test_members_of_other_class_orders_are_refused(tmp_path, capfd):
    turned = dataclasses.replace(MULTICLASS, classes=("mel", "nv", "bcc"))
    members = [
        save(tmp_path / "a.parquet", toy_predictions(MULTICLASS)),
        save(tmp_path / "b.parquet", toy_predictions(turned)),
    ]
    for command in ([*members, "--output", str(tmp_path / "out.parquet")], members):
        assert (main if len(command) > 2 else compare)(command) == 1
        assert "b.parquet beside" in (error := capfd.readouterr().err)
        assert "label must be equal in all members" in error


def test_predictions_without_rows_are_refused(tmp_path, capfd):
    member = save(tmp_path / "a.parquet", toy_predictions(), lambda frame: frame.iloc[:0])
    assert main([member, "--output", str(tmp_path / "out.parquet")]) == 1
    assert "predictions must have rows, got none" in capfd.readouterr().err


def test_members_of_one_class_are_combined_but_cannot_choose(tmp_path, capfd):
    member = save(tmp_path / "a.parquet", toy_predictions(), lambda frame: frame.assign(target=0))
    flags = [member, "--output", str(tmp_path / "out.parquet")]
    assert main([*flags, "--method", "optimal"]) == 1
    assert "must have positives and negatives for auc, got 12" in capfd.readouterr().err
    assert main(flags) == 0
    assert "n/a" in capfd.readouterr().out
