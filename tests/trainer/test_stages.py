"""Stages of a run: each starts from the last one's weights, and a crash between them shows not."""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.loop import Loop
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.running.checkpoints import newest_weights
from trainer.task import main

RECIPE = """
[data]
train = ["train"]
validation = ["val"]
[[augment]]
op = "flip_left_right"
[model]
backbone = "small-cnn"
dropout = 0.5
[optimizer]
ema_decay = 0.9
[train]
epochs = 4
batch_size = 8
steps_per_call = 3
evaluate_every = 1
[[stage]]
epochs = 2
freeze = "backbone"
schedule = {kind = "constant"}
[[stage]]
learning_rate = 1e-4
schedule = {kind = "step", milestones = [1]}
group_rates = {backbone = 0.1}
"""
# Epochs of 5 steps, in calls of 3 and 2: the first stage ends with the fourth call.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    write_toy_records(folder / "records", rows=80, parts=("train", "val"))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def train(folder, run, *overrides):
    flags = [flag for text in overrides for flag in ("--set", text)]
    words = ["--records", f"{folder}/records", "--run", str(run)]
    return main([*words, "--config", f"{folder}/recipe.toml", *flags])


@pytest.fixture(scope="module")
def undisturbed(folder):
    assert train(folder, folder / "undisturbed") == 0
    return folder / "undisturbed"


def metrics_of(run):
    lines = (run / "fold0" / "metrics.jsonl").read_text().splitlines()
    of_clock = ("seconds", "images_per_second", "waited_share")
    return [
        {name: value for name, value in json.loads(line).items() if name not in of_clock}
        for line in lines
    ]


def values_in(prefix):
    reader = tf.train.load_checkpoint(prefix)
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def layers_of(run):
    """The weights of the newest checkpoint by name of layer."""
    tf.keras.backend.clear_session()
    config = ModelConfig(backbone="small-cnn")
    model = build_model(config, image_size_px=32, metadata_width=0, outputs=1)
    prefix = newest_weights(f"{run}/fold0/checkpoints")
    tf.train.Checkpoint(model=model).read(prefix).expect_partial()
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def test_metrics_name_the_stage_and_each_stage_has_its_own_schedule(undisturbed):
    lines = metrics_of(undisturbed)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["stage"] for line in lines] == [1, 1, 2, 2]
    rates = [line["learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_what_was_frozen_in_a_stage_moves_in_the_next_from_where_it_was(folder, tmp_path, capsys):
    one = "stage=[{epochs = 1, freeze = 'backbone'}]"
    assert train(folder, tmp_path / "one", "train.epochs=1", one) == 0
    two = "stage=[{epochs = 1, freeze = 'backbone'}, {epochs = 1, learning_rate = 1e-9}]"
    assert train(folder, tmp_path / "two", "train.epochs=2", two) == 0
    printed = capsys.readouterr().out
    assert "fold 0: stage 1 of 2, from epoch 1: stem to block5 frozen, 129 weights" in printed
    assert "fold 0: stage 2 of 2, from epoch 2: 19" in printed
    assert "fold 0  stage 2/2  epoch 2/2" in printed
    first, second = (layers_of(tmp_path / run) for run in ("one", "two"))
    for block in range(1, 6):
        name = f"block{block}_conv"  # at its tiny rate the second stage hardly moves it
        np.testing.assert_allclose(second[name][0], first[name][0], atol=1e-6)
        means = [layers[f"block{block}_bn"][2] for layers in (first, second)]
        assert (means[0] != means[1]).any()


# At the first stage's end; in the second, of which nothing is saved, and of which it is.
@pytest.mark.parametrize(("call", "how"), [(4, "SIGTERM"), (5, "killed"), (5, "SIGTERM")])
def test_a_run_broken_off_in_any_stage_ends_as_if_nothing_had_been(
    folder, undisturbed, tmp_path, monkeypatch, call, how
):
    calls, whole = iter(range(1, 1000)), Loop.train

    def broken(self, *args):
        steps = whole(self, *args)
        if next(calls) == call:
            if how == "killed":
                raise MemoryError("as good as killed")
            os.kill(os.getpid(), signal.SIGTERM)
        return steps

    with monkeypatch.context() as breaking:
        breaking.setattr(Loop, "train", broken)
        if how == "killed":
            with pytest.raises(MemoryError):
                train(folder, tmp_path / "run")
        else:
            assert train(folder, tmp_path / "run") == 143
    assert train(folder, tmp_path / "run") == 0
    assert metrics_of(tmp_path / "run") == metrics_of(undisturbed)
    values, expected = (
        values_in(newest_weights(f"{run}/fold0/checkpoints"))
        for run in (tmp_path / "run", undisturbed)
    )
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)
    frames = [read_predictions(str(run)).frame for run in (tmp_path / "run", undisturbed)]
    assert frames[0].equals(frames[1])


def test_a_stages_loss_weights_and_dropout_take_the_place_of_the_recipes(folder, tmp_path):
    still = ("train.epochs=1", "optimizer.learning_rate=1e-12")
    assert train(folder, tmp_path / "usual", *still, "stage=none", "model.dropout=0.0") == 0
    assert (
        train(folder, tmp_path / "half", *still, "stage=[{dropout = 0, loss_weights = [0.5]}]") == 0
    )
    usual, half = (metrics_of(tmp_path / run)[0]["loss"] for run in ("usual", "half"))
    assert half == pytest.approx(usual / 2, rel=1e-6)


def scored(monkeypatch, *scores):
    scores = iter(scores)
    monkeypatch.setattr(
        "trainer.running.epochs.evaluate",
        lambda predictions: {"auc": next(scores), "average_precision": 0.5},
    )


def test_a_stage_without_patience_left_makes_way_for_the_next(
    folder, tmp_path, monkeypatch, capsys
):
    scored(monkeypatch, 0.7, 0.8, 0.8, 0.6, 0.5, 0.4, 0.3)
    stages = "stage=[{epochs = 5, patience_epochs = 2}, {epochs = 3, patience_epochs = 2}]"
    assert train(folder, tmp_path / "run", "train.epochs=8", stages) == 0
    # The second stage knows nothing of the first one's 0.8: 0.5 is its best.
    assert [line["stage"] for line in metrics_of(tmp_path / "run")] == [1, 1, 1, 1, 2, 2, 2]
    printed = capsys.readouterr().out
    assert "stage 2/2  epoch 7/7" in printed
    assert "selected on val" in printed
    assert read_predictions(str(tmp_path / "run")).run["selected_on"] == ["val"]


def test_the_best_weights_of_an_earlier_stage_predict(folder, tmp_path, monkeypatch):
    scored(monkeypatch, 0.9, 0.8, 0.7, 0.6)
    assert train(folder, tmp_path / "best", "train.keep=best") == 0
    monkeypatch.undo()
    only = "stage=[{epochs = 1, freeze = 'backbone', schedule = {kind = 'constant'}}]"
    assert train(folder, tmp_path / "short", "train.epochs=1", only) == 0
    best, short = (read_predictions(str(tmp_path / run)).frame for run in ("best", "short"))
    assert best.equals(short)


def test_predictions_may_be_of_a_larger_image_than_training(folder, tmp_path):
    small = ["stage=none", "train.epochs=1", "data.image_size_px=24"]
    assert train(folder, tmp_path / "small", *small) == 0
    assert train(folder, tmp_path / "large", *small, "data.evaluation_size_px=32") == 0
    small, large = (metrics_of(tmp_path / run)[0] for run in ("small", "large"))
    assert small["loss"] == large["loss"]
    small, large = (
        read_predictions(str(tmp_path / run)).frame["logit_malignant"] for run in ("small", "large")
    )
    assert (small != large).all()


def test_a_network_of_one_image_size_is_told_so(folder, tmp_path, capsys):
    sizes = ["data.image_size_px=24", "data.evaluation_size_px=32"]
    assert train(folder, tmp_path / "run", "model.backbone=conv-75-125", *sizes) == 2
    error = capsys.readouterr().err
    assert "data.evaluation_size_px must be left out for conv-75-125" in error


def test_too_many_blocks_in_a_later_stage_are_refused_before_the_first(folder, tmp_path, capsys):
    stages = "stage=[{epochs = 1}, {freeze = 'backbone', unfreeze_blocks = 9}]"
    assert train(folder, tmp_path / "run", stages) == 2
    assert "stage.1.unfreeze_blocks must be 6 or less" in capsys.readouterr().err
    assert not (tmp_path / "run/fold0/checkpoints").exists()


@pytest.mark.slow  # two starts of TensorFlow, for its devices
@pytest.mark.parametrize("legacy", ["0", "1"], ids=["keras 3", "tf_keras"])
def test_stages_groups_and_another_size_work_on_replicas(folder, tmp_path, legacy):
    if legacy == "1" and not importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is not installed; make install does")

    def start(run, *flags):
        words = ["--records", f"{folder}/records", "--run", f"{tmp_path}/{run}", "--replicas", "2"]
        words += ["--config", f"{folder}/recipe.toml", *flags]
        environment = {**os.environ, "TF_USE_LEGACY_KERAS": legacy}
        done = subprocess.run(
            [sys.executable, "-m", "trainer.task", *words],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    smaller = ["--set", "data.image_size_px=24", "--set", "data.evaluation_size_px=32"]
    assert "stage 2/2  epoch 4/4" in start("first", *smaller)
    # No averages in the second: its own weights predict.
    init = ["--set", f"init={tmp_path}/first", "--set", "optimizer.ema_decay=none"]
    assert "fold 0: starts from the weights of" in start("second", *init)
