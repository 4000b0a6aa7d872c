"""A run that was broken off and started again ends as if nothing had been."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.loop import Loop
from trainer.running.checkpoints import newest_weights
from trainer.running.setup import open_stream
from trainer.task import main

# All that draws random numbers or keeps state of its own, and calls that end at odd places.
RECIPE = """
[data]
train = ["train"]
validation = ["val"]
[[augment]]
op = "flip_left_right"
[[augment]]
op = "brightness"
max_delta = 0.2
[model]
backbone = "small-cnn"
dropout = 0.5
[optimizer]
accumulate_steps = 2
ema_decay = 0.9
[schedule]
kind = "on_plateau"
patience_epochs = 1
[train]
epochs = 3
batch_size = 4
steps_per_call = 2
evaluate_every = 1
checkpoint_every = 3
"""
# Epochs of 5 steps; calls end at 2, 3 (saved), 5 (saved), 6 (saved), 8, 9 (saved), 10 (saved), …


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_toy_records(folder / "records", rows=80, parts=("train", "val"))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def train(folder, run, *flags):
    words = ["--records", f"{folder}/records", "--run", str(run)]
    return main([*words, "--config", f"{folder}/recipe.toml", *flags])


@pytest.fixture(scope="module")
def undisturbed(folder):
    assert train(folder, folder / "undisturbed") == 0
    return folder / "undisturbed"


def outcome(run):
    """Weights, optimizer and average by name, predictions, and metrics but for the clock's."""
    reader = tf.train.load_checkpoint(newest_weights(f"{run}/fold0/checkpoints"))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    del values["_CHECKPOINTABLE_OBJECT_GRAPH"]
    lines = (run / "fold0" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    for line in metrics:
        for of_clock in ("seconds", "images_per_second", "waited_share"):
            del line[of_clock]
    return values, read_predictions(str(run)).frame, metrics


def assert_same_outcome(run, undisturbed):
    (values, frame, metrics), (expected, frame_expected, metrics_expected) = map(
        outcome, (run, undisturbed)
    )
    assert metrics == metrics_expected
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)
    assert frame.equals(frame_expected)


@pytest.fixture
def at_call(monkeypatch):
    """Has something happen in the n-th call of the loop, when its steps are done."""

    def at_call(number, happens, monkeypatch=monkeypatch):
        calls, train = iter(range(1, 1000)), Loop.train

        def broken(self, *args):
            steps = train(self, *args)
            return happens(steps) if next(calls) == number else steps

        monkeypatch.setattr(Loop, "train", broken)
        return lambda: monkeypatch.setattr(Loop, "train", train)

    return at_call


def terminated(steps, number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    return steps


def killed(steps):
    raise MemoryError("as good as killed")


@pytest.mark.parametrize(("call", "step"), [(1, 2), (3, 5)])  # the second ends an epoch
def test_sigterm_saves_what_was_trained_and_the_same_command_goes_on(
    folder, undisturbed, tmp_path, at_call, capsys, call, step
):
    mend = at_call(call, terminated)
    assert train(folder, tmp_path / "run") == 143
    assert "stopped by SIGTERM; the same command again goes on" in capsys.readouterr().err
    names = sorted(path.name for path in (tmp_path / "run/fold0/checkpoints").iterdir())
    assert names[-1] == f"step-{step:08d}"
    mend()
    assert train(folder, tmp_path / "run") == 0
    assert f"fold 0: goes on after step {step}" in capsys.readouterr().out
    assert_same_outcome(tmp_path / "run", undisturbed)


def test_a_run_that_died_between_checkpoints_takes_the_steps_since_the_last_again(
    folder, undisturbed, tmp_path, at_call
):
    mend = at_call(5, killed)
    with pytest.raises(MemoryError):
        train(folder, tmp_path / "run")
    mend()
    assert train(folder, tmp_path / "run") == 0
    assert_same_outcome(tmp_path / "run", undisturbed)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    folder, undisturbed, tmp_path, at_call, caplog
):
    mend = at_call(5, killed)
    with pytest.raises(MemoryError):
        train(folder, tmp_path / "run")
    mend()
    path = tmp_path / "run/fold0/checkpoints/step-00000006/weights.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    assert train(folder, tmp_path / "run") == 0
    assert "step-00000006: passed over, for a checkpoint must be whole" in caplog.text
    assert_same_outcome(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("bytes_then", "bytes_now"), [(1 << 40, 0), (0, 1 << 40)])
def test_examples_come_in_the_order_the_run_began_with_whatever_the_memory_now(
    folder, tmp_path, at_call, monkeypatch, bytes_then, bytes_now
):
    def machine_of(memory_bytes):
        monkeypatch.setattr("pipeline.stream.held.memory_bytes", lambda: memory_bytes)

    machine_of(bytes_then)
    mend = at_call(1, terminated)
    assert train(folder, tmp_path / "run", "--set", "train.epochs=1") == 143
    mend()
    machine_of(bytes_now)
    opened = []
    monkeypatch.setattr(
        "trainer.fold_run.open_stream", lambda *args: opened.append(open_stream(*args)) or opened[0]
    )
    assert train(folder, tmp_path / "run", "--set", "train.epochs=1") == 0
    assert opened[0].is_held is (bytes_then > 0)


def test_ctrl_c_saves_as_well_and_fresh_forgets_it(folder, tmp_path, at_call, capsys):
    mend = at_call(1, lambda steps: terminated(steps, signal.SIGINT))
    assert train(folder, tmp_path / "run") == 130
    assert (tmp_path / "run/fold0/checkpoints/step-00000002/state.json").exists()
    mend()
    assert train(folder, tmp_path / "run", "--fresh", "--set", "train.epochs=1") == 0
    printed = capsys.readouterr().out
    assert "goes on" not in printed
    assert "epoch 1/1" in printed


def test_the_best_weights_predict_and_say_what_they_were_chosen_on(
    folder, tmp_path, at_call, monkeypatch, capsys
):
    scores = iter([0.9, 0.8, 0.7])  # the first epoch is the best, of a run that is then stopped
    monkeypatch.setattr(
        "trainer.running.epochs.evaluate",
        lambda predictions: {"auc": next(scores), "average_precision": 0.5},
    )
    mend = at_call(5, terminated)
    assert train(folder, tmp_path / "run", "--set", "train.keep=best") == 143
    mend()
    assert train(folder, tmp_path / "run", "--set", "train.keep=best") == 0
    assert "selected on val: " in capsys.readouterr().out
    best = read_predictions(str(tmp_path / "run"))
    assert best.run["selected_on"] == ["val"]
    monkeypatch.undo()
    assert train(folder, tmp_path / "short", "--set", "train.epochs=1") == 0
    assert read_predictions(str(tmp_path / "short")).frame.equals(best.frame)


def test_vertex_ai_names_the_folders(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AIP_MODEL_DIR", f"{tmp_path}/model")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", f"{tmp_path}/checkpoints")
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", f"{tmp_path}/logs")
    words = ["--records", f"{folder}/records", "--config", f"{folder}/recipe.toml"]
    words += ["--set", "train.epochs=1"]
    assert main(words) == 0
    assert (tmp_path / "model/predictions.parquet").exists()
    assert (tmp_path / "checkpoints/fold0/step-00000005/state.json").exists()
    assert list((tmp_path / "logs/fold0").glob("events.out.tfevents*"))
    assert not (tmp_path / "model/fold0/checkpoints").exists()
    assert main(words) == 0  # and finds them again
