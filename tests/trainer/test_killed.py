"""A run that is killed at random moments ends with the very bits of one that never was."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.running.checkpoints import newest_weights

KILLS = 10
RECIPE = """
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
ema_decay = 0.99
[train]
epochs = 30
batch_size = 16
steps_per_call = 5
checkpoint_every = 7
"""


@pytest.mark.slow  # ten starts of TensorFlow
def test_ten_kills_change_no_bit_of_weights_and_predictions(tmp_path):
    write_toy_records(tmp_path / "records", rows=800, size_px=64, parts=("fold0", "fold1"))
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def start(run):
        words = ["--records", f"{tmp_path}/records", "--run", str(tmp_path / run), "--folds", "0,1"]
        words += ["--config", f"{tmp_path}/recipe.toml"]
        return subprocess.Popen(
            [sys.executable, "-m", "trainer.task", *words], stdout=subprocess.DEVNULL
        )

    def checkpoints(run):
        return sorted(path.parent.name for path in (tmp_path / run).glob("*/*/*/state.json"))

    assert start("undisturbed").wait() == 0

    moments = random.Random(4)
    for number in range(KILLS):
        before, process = checkpoints("killed"), start("killed")
        # Two anywhere in the start, the others once training has gone on.
        while number > 1 and checkpoints("killed") == before:
            assert process.poll() is None, f"ended by itself before kill {number}"
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 2 if number > 1 else 6))
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"ended by itself before kill {number}"
    assert start("killed").wait() == 0

    for fold in (0, 1):
        expected, values = (
            tf.train.load_checkpoint(newest_weights(f"{tmp_path}/{run}/fold{fold}/checkpoints"))
            for run in ("undisturbed", "killed")
        )
        for name in expected.get_variable_to_shape_map():
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
                np.testing.assert_array_equal(
                    values.get_tensor(name), expected.get_tensor(name), err_msg=name
                )
    expected, killed = (
        read_predictions(str(tmp_path / run)).frame for run in ("undisturbed", "killed")
    )
    assert killed.equals(expected)
