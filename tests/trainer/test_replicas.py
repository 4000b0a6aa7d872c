"""Four replicas train as one does, on both Keras; each in a process of its own, for its devices."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.strategy import make_strategy

ONE, FOUR = tf.distribute.get_strategy(), make_strategy(None, 4, 16)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 32, 32, 3), np.uint8)
TARGETS = RNG.integers(0, 2, 48)
DATA = {"image": IMAGES, "row": np.arange(48)}, {"target": TARGETS}, np.ones(48, np.float32)

def batches(context):
    size = context.get_per_replica_batch_size(16)
    return tf.data.Dataset.from_tensor_slices(DATA).repeat().batch(size, drop_remainder=True)

def evaluation(context):
    size = context.get_per_replica_batch_size(16)
    return tf.data.Dataset.from_tensor_slices(DATA).batch(size, drop_remainder=True)

def run(strategy, kind, rate, batch_norm, clip_norm=None, accumulate=1):
    tf.keras.utils.set_random_seed(1)
    model = ModelConfig(backbone="small-cnn", dropout=0.0, batch_norm=batch_norm)
    config = OptimizerConfig(kind=kind, learning_rate=rate, clip_norm=clip_norm)
    with strategy.scope():
        model = build_model(model, image_size_px=32, metadata_width=0, outputs=1)
        rates = np.full(20, rate, np.float32)
        optimizer = build_optimizer(config, rates, model.trainable_variables)
    loop = Loop(
        strategy=strategy, model=model, optimizer=optimizer, losses=(LossConfig(kind="bce"),),
        batch_size=16, steps_per_call=10, clip_norm=clip_norm, accumulate=accumulate,
    )
    iterator = loop.iterate(batches)
    losses = [loop.train(iterator, first, 10).losses.tolist() for first in (0, 10)]
    rows, logits = loop.predict(evaluation)
    order = np.argsort(rows)
    return {"losses": sum(losses, []), "rows": rows[order].tolist(),
            "logits": logits[order, 0].tolist()}

json.dump({name: eval(f"run({name})") for name in sys.argv[1:]}, sys.stdout)
"""

CASES = {
    "sgd": "'sgd', 0.02, 'synchronised'",
    "adam": "'adam', 1e-3, 'synchronised'",
    "clipped, accumulated sgd": "'sgd', 0.02, 'frozen', 0.1, 2",
}


@pytest.mark.parametrize("legacy", ["0", "1"], ids=["keras 3", "tf_keras"])
def test_one_and_four_replicas_take_the_same_steps(legacy):
    if legacy == "1" and not importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is not installed; `make install` does")
    calls = [f"{devices}, {case}" for case in CASES.values() for devices in ("ONE", "FOUR")]
    four_times = "ONE, 'sgd', 0.08, 'synchronised'"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *calls, four_times],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": legacy, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    for name, case in CASES.items():
        one, four = results[f"ONE, {case}"], results[f"FOUR, {case}"]
        np.testing.assert_allclose(one["losses"], four["losses"], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(one["logits"], four["logits"], atol=1e-3, err_msg=name)
        assert one["rows"] == four["rows"] == list(range(48))
        assert one["losses"][-1] < one["losses"][0], name
    # What gradients that are summed twice would look like, were this test able to see them.
    once, twice = results[f"ONE, {CASES['sgd']}"], results[four_times]
    assert np.abs(np.divide(twice["losses"], once["losses"]) - 1).max() > 1e-2
