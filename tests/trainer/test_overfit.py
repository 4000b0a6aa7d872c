"""`--overfit`: which rows, what is switched off, and the verdict."""

import signal

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SettingsError
from records_factory import LABELS, write_toy_records
from trainer.config import Config
from trainer.optimizers import OptimizerConfig
from trainer.overfit import choose_rows, without_restraint
from trainer.running.stopping import Stopped
from trainer.task import main

FLAGS = ("--set", "model.backbone=small-cnn", "--set", "train.batch_size=16")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overfit") / "records"
    write_toy_records(folder, rows=80)
    return folder


def test_a_network_that_can_learn_does_and_nothing_is_written(records, tmp_path, capsys):
    before = sorted(records.rglob("*"))
    flags = ("--run", str(tmp_path / "run"), "--overfit", "24", "--set", "model.dropout=0.9")
    assert main(["--records", str(records), *FLAGS, *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step  25/300  loss 0.")
    assert lines[0].endswith("learning rate 0.001")
    assert "of 24 images" in lines[0]
    assert lines[-1].startswith("the network can learn: accuracy 1.0000 at step ")
    assert not (tmp_path / "run").exists()
    assert sorted(records.rglob("*")) == before


def test_what_of_the_recipe_it_leaves_out_is_said(records, capsys):
    stages = ("--set", "stage={freeze = 'backbone'}", "--set", "init=runs/other")
    assert main(["--records", str(records), *FLAGS, *stages, "--overfit", "8"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "--overfit leaves [[stage]] out: all of a new network trains"
    assert second == "--overfit leaves init out: all of a new network trains"


def test_stopped_it_does_not_promise_to_go_on(records, capsys, monkeypatch):
    def stop(*_, **__):
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("trainer.task.check_learning", stop)
    assert main(["--records", str(records), *FLAGS, "--overfit", "8"]) == 143
    error = capsys.readouterr().err
    assert "stopped by SIGTERM; nothing was kept, and the same command begins anew" in error
    assert "goes on" not in error


def test_one_that_cannot_exits_1_and_says_how_far_it_came(records, capsys):
    flags = ("--overfit", "16", "--set", "optimizer.learning_rate=1e-9")
    assert main(["--records", str(records), *FLAGS, *flags]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "did not learn 16 images: accuracy must reach 0.99 in 300 steps, got 0." in last
    assert "learning rate 1e-09" in last


def test_several_labels_are_judged_by_auc(tmp_path, capsys):
    write_toy_records(tmp_path / "records", kind="multilabel")
    assert main(["--records", f"{tmp_path}/records", *FLAGS, "--overfit", "16"]) == 0
    assert "the network can learn: AUC " in capsys.readouterr().out


def test_rows_are_taken_from_the_classes_in_turn():
    target = [0] * 90 + [1] * 5 + [2] * 4 + [-1]
    rows = pd.DataFrame({"row": np.arange(100), "target": target}).sample(frac=1, random_state=0)
    label = LABELS["multiclass"]
    assert choose_rows(rows, label, 6) == [0, 90, 95, 1, 91, 96]
    chosen = choose_rows(rows, label, 20)  # the rare ones run out
    assert chosen[-1] == 10
    assert set(range(90, 99)) <= set(chosen)
    assert len(choose_rows(rows, label, 99)) == 99


def test_each_of_several_labels_and_none_of_them_are_classes():
    target = [[1, 1, 0], [0, 0, 0], [0, 1, 0], [-1, 1, 0], [0, 0, 1]]
    rows = pd.DataFrame({"row": range(5), "target": list(np.float32(target))})
    assert choose_rows(rows, LABELS["multilabel"], 4) == [0, 4, 1, 2]


@pytest.mark.parametrize(
    ("target", "images", "message"),
    [
        ([0, 1, 0, -1], 4, "from 2 to the 3 training images with a label, got 4"),
        ([0, 1], 1, "from 2 to the .* got 1"),
        ([0, 0, 0], 2, "must hold two classes, got one"),
    ],
)
def test_a_number_of_images_that_shows_nothing_is_refused(target, images, message):
    rows = pd.DataFrame({"row": range(len(target)), "target": target})
    with pytest.raises(SettingsError, match=message):
        choose_rows(rows, LABELS["binary"], images)


def test_what_restrains_is_off_and_the_batch_fits_the_replicas():
    config = Config(optimizer=OptimizerConfig(weight_decay=0.1, ema_decay=0.9, accumulate_steps=4))
    free = without_restraint(config, 10, 4)
    optimizer = free.optimizer
    assert (optimizer.weight_decay, optimizer.ema_decay, optimizer.accumulate_steps) == (
        None, None, 1
    )  # fmt: skip
    assert free.schedule.kind == "constant"
    assert free.train.batch_size == 8
