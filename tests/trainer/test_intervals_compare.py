"""`python -m trainer.compare`: both runs' figures, their difference, and what is refused."""

import dataclasses
import re

import numpy as np
import pytest

from pipeline.predictions import write_predictions
from predictions_factory import BINARY, toy_predictions
from trainer.compare import main
from trainer.intervals import difference_intervals, intervals


def save(path, predictions, **columns):
    frame = predictions.frame.assign(**columns)
    write_predictions(str(path), dataclasses.replace(predictions, frame=frame))
    return str(path)


@pytest.fixture
def better():
    """Predictions of which the positives score higher by one."""
    whole = toy_predictions(BINARY, rows=80)
    logits = whole.frame["logit_malignant"] + whole.frame["target"]
    probs = 1 / (1 + np.exp(-logits))
    return dataclasses.replace(
        whole, frame=whole.frame.assign(logit_malignant=logits, prob_malignant=probs)
    )


def test_each_figure_stands_beside_the_difference(tmp_path, capsys, better):
    other = toy_predictions(BINARY, rows=80, seed=1)
    files = [save(tmp_path / "a.parquet", better), save(tmp_path / "b.parquet", other)]
    assert main([*files, "--draws", "60", "--seed", "3"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.endswith("80 rows, 60 draws")
    assert [line.split()[0] for line in lines] == ["AUC", "AP", "sens@0.6", "sens@0.9"]
    settings = {"draws": 60, "seed": 3}
    difference = difference_intervals(better, other, **settings)["AUC"]
    assert difference.figure > 0
    for part in (
        difference.text(is_difference=True),
        intervals(better, **settings)["AUC"].text(),
        intervals(other, **settings)["AUC"].text(),
    ):
        assert part in lines[0]


def test_a_run_that_was_selected_on_a_part_is_named(tmp_path, capsys, better):
    chosen = dataclasses.replace(better, run={**better.run, "selected_on": ["fold0", "fold1"]})
    files = [save(tmp_path / "a.parquet", chosen), save(tmp_path / "b.parquet", better)]
    assert main([*files, "--draws", "20"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{files[0]} was selected on fold0, fold1: its figures flatter it"


def test_rows_are_matched_by_id_whatever_their_order(tmp_path, capsys, better):
    shuffled = dataclasses.replace(better, frame=better.frame.sample(frac=1, random_state=0))
    files = [save(tmp_path / "a.parquet", better), save(tmp_path / "b.parquet", shuffled)]
    assert main([*files, "--draws", "20"]) == 0
    assert capsys.readouterr().out.count("+0.000 (95 % +0.000 to +0.000 by group)") == 4


def test_other_targets_are_refused_and_counted(tmp_path, capfd, better):
    targets = better.frame["target"].where(better.frame["row"] > 2, 1)  # rows 0 and 2 were 0
    files = [
        save(tmp_path / "a.parquet", better),
        save(tmp_path / "b.parquet", better, target=targets),
    ]
    assert main(files) == 1
    error = capfd.readouterr().err
    assert re.search(r"targets must be equal, got 2 rows .*first row 0", error), error


def test_other_ids_are_refused_and_counted(tmp_path, capfd, better):
    fewer = dataclasses.replace(better, frame=better.frame.iloc[3:])
    files = [save(tmp_path / "a.parquet", better), save(tmp_path / "b.parquet", fewer)]
    assert main(files) == 1
    assert "ids must be in both, got 3 rows only in" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("a.parquet", "a.parquet"), "two runs must be given, got"),
        (("a.parquet", "b.parquet", "--draws", "0"), "--draws must be 1 or more, got 0"),
    ],
)
def test_a_command_line_at_fault_is_told(tmp_path, monkeypatch, capfd, flags, message):
    monkeypatch.chdir(tmp_path)
    assert main(flags) == 2
    assert message in capfd.readouterr().err
