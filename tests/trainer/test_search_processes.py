"""The processes of a search: side by side, stopped with it, never left behind; and true trials."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.config import load_config
from trainer.search.__main__ import main
from trainer.search.processes import launching, run_trials, shared_cores

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
[model]
backbone = "small-cnn"
[optimizer]
kind = "sgd"
[train]
epochs = 1
batch_size = 8
"""
# A search whose trials stand still until they are told to leave, which takes them a moment.
STANDING = """
import sys
from trainer.search import __main__, processes

processes._TASK = (sys.executable, "-c", '''
import pathlib, runpy, signal, sys, time, types

def main(argv):
    def leave(number, frame):
        time.sleep(0.3)
        (folder / "saved").touch()
        sys.exit(128 + number)

    folder = pathlib.Path(argv[argv.index("--run") + 1])
    signal.signal(signal.SIGTERM, leave)
    (folder / "ready").touch()
    time.sleep(60)

task = types.ModuleType("trainer.task")
task.main = main
sys.modules["trainer.task"] = task
runpy.run_module("trainer.search.trial_process", run_name="__main__")
''')
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.fixture
def words(tmp_path):
    """The flags of a search of two trials."""
    write_toy_records(tmp_path / "records", rows=60, size_px=16)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["--records", f"{tmp_path}/records", "--run", f"{tmp_path}/search", "--draws", "20"]
    words += ["--config", f"{tmp_path}/recipe.toml", "--folds", "0"]
    return [*words, "--grid", "optimizer.learning_rate=1e-3,1e30"]


def found(folder, name, count):
    """Waits until so many trials have a file."""
    until = time.monotonic() + 30
    while len(list(folder.glob(f"search/trials/*/{name}"))) < count:
        assert time.monotonic() < until, f"not {count} times {name}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_trials_save_and_leave_when_the_search_does(words, tmp_path, number, code):
    command = [sys.executable, "-c", STANDING, *words, "--parallel", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        found(tmp_path, "ready", 2)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    if number != signal.SIGKILL:  # which leaves nobody to wait for them
        assert "the same command again goes on from here" in error
        assert len(list(tmp_path.glob("search/trials/*/saved"))) == 2
    found(tmp_path, "saved", 2)


def test_two_searches_do_not_work_in_one_folder(tmp_path):
    with (
        launching(str(tmp_path)),
        pytest.raises(SettingsError, match="no other search must be at work here"),
        launching(str(tmp_path)),
    ):
        pass
    with launching(str(tmp_path)):
        pass


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_trials_side_by_side_share_the_cores_and_never_are_too_many():
    first, second = shared_cores(2)
    assert sorted(first + second) == sorted(os.sched_getaffinity(0))
    assert shared_cores(1) == [None]

    running, most, told = [], [], []

    class Process:
        def __init__(self, trial):
            self.trial, self.looks = trial, 2

        def poll(self):
            self.looks -= 1
            if self.looks:
                return None
            running.remove(self.trial)
            return 0

    def start(trial, cores):
        running.append(trial)
        most.append(len(running))
        assert cores in (first, second)
        return Process(trial)

    run_trials(
        range(5), start, parallel=2, ended=lambda trial, code, seconds: told.append((trial, code))
    )
    assert max(most) == 2
    assert sorted(told) == [(trial, 0) for trial in range(5)]


def with_rates(words, rates):
    return [*words[:-1], f"optimizer.learning_rate={rates}"]


def test_a_true_trial_is_a_run_of_the_task(words, tmp_path, capsys):
    assert main(with_rates(words, "1e-3")) == 0
    assert "measured on fold 0; no other trial has a result" in capsys.readouterr().out
    [trial] = (tmp_path / "search" / "trials").glob("001-*")
    assert set(read_predictions(str(trial)).frame["fold"]) == {0}
    assert load_config(str(trial / "config.toml")).optimizer.learning_rate == 1e-3
    assert "epoch 1/1" in (trial / "output.txt").read_text()
    assert main(with_rates(words, "1e-3")) == 0
    assert "1 trial on fold 0: 1 done, 0 failed, 0 to train" in capsys.readouterr().out


@pytest.mark.slow  # two starts of TensorFlow
def test_a_trial_that_diverges_ends_alone(words, tmp_path, capsys):
    assert main([*words, "--parallel", str(min(2, len(os.sched_getaffinity(0))))]) == 0
    printed = capsys.readouterr().out
    assert "002 (optimizer.learning_rate=1e30) failed: exit code 1: task: error: fold 0," in printed
    with (tmp_path / "search" / "search.csv").open() as file:
        assert [line["state"] for line in csv.DictReader(file)] == ["done", "failed"]


@pytest.mark.slow  # four starts of TensorFlow
def test_a_stopped_search_goes_on_to_the_same_predictions(words, tmp_path):
    words = [*with_rates(words, "1e-3"), "--set", "train.epochs=60"]
    command = [sys.executable, "-m", "trainer.search", *words]
    process = subprocess.Popen(command, cwd=ROOT)
    found(tmp_path, "fold0/checkpoints/*/state.json", 1)
    process.terminate()
    assert process.wait() == 143
    assert not list(tmp_path.glob("search/trials/*/predictions.parquet"))
    assert main(words) == 0
    assert "goes on after step" in next(tmp_path.glob("search/trials/*/output.txt")).read_text()
    other = [word.replace("/search", "/undisturbed") for word in words]
    assert main(other) == 0
    [stopped], [undisturbed] = (
        [*tmp_path.glob(f"{name}/trials/001-*")] for name in ("search", "undisturbed")
    )
    expected = read_predictions(str(undisturbed)).frame
    assert read_predictions(str(stopped)).frame.equals(expected)
