"""`python -m trainer.ensemble`: alignment, the table, the file, and what it refuses."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from pipeline.predictions import read_predictions, write_predictions
from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.ensemble import logits_of, main


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


@pytest.mark.parametrize("module", ["trainer.ensemble", "trainer.task"])
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
