"""`trainer.accumulate`: several batches a step are one batch of them all."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from trainer.accumulate import Accumulator
from trainer.optimizers import OptimizerConfig, build_optimizer

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def test_what_is_taken_is_the_mean_since_the_last_time():
    accumulator = Accumulator([tf.Variable(tf.zeros(3))], 3)
    for start in (0, 3):
        for gradient in GRADIENTS[start : start + 2]:
            accumulator.add([tf.constant(gradient)])
        [mean] = accumulator.take([tf.constant(GRADIENTS[start + 2])])
        np.testing.assert_allclose(mean, GRADIENTS[start : start + 3].mean(axis=0), rtol=1e-6)


def test_the_schedule_counts_applied_steps():
    weight = tf.Variable(tf.zeros(3))
    optimizer = build_optimizer(
        OptimizerConfig(kind="sgd"), np.array([1.0, 0.0], np.float32), [weight]
    )
    accumulator = Accumulator([weight], 3)

    @tf.function(jit_compile=True)
    def step(gradients):
        for gradient in gradients[:-1]:
            accumulator.add([gradient])
        optimizer.apply_gradients(zip(accumulator.take([gradients[-1]]), [weight], strict=True))

    for start in (0, 3):
        step([tf.constant(gradient) for gradient in GRADIENTS[start : start + 3]])
    np.testing.assert_allclose(weight.numpy(), -GRADIENTS[:3].mean(axis=0), rtol=1e-6)
    assert int(optimizer.iterations) == 2


SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
from trainer.accumulate import Accumulator
from trainer.optimizers import OptimizerConfig, build_optimizer, clip_to_global_norm
from trainer.strategy import make_strategy

two = make_strategy(None, 2, 8)
rng = np.random.default_rng(0)
inputs, targets = rng.normal(size=(24, 4)).astype("f"), rng.normal(size=(24, 1)).astype("f")


def train(strategy, batch_size, micro_steps, fraction):
    # 3 applied steps of 8 examples each, `batch_size` of them at a time on all replicas together,
    # at the same rates: those of the table times the fraction.
    with strategy.scope():
        weight = tf.Variable(tf.ones([4, 1]))
        rates = np.array([0.3, 0.2, 0.1], np.float32) / fraction
        optimizer = build_optimizer(OptimizerConfig(kind="momentum"), rates, [weight])
        accumulator = Accumulator([weight], micro_steps)

    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((x @ tf.convert_to_tensor(weight) - y) ** 2) / batch_size
        return tape.gradient(loss, [weight])

    def add(x, y):
        accumulator.add(gradients(x, y))

    def apply(x, y):
        taken = clip_to_global_norm(accumulator.take(gradients(x, y)), 0.5)
        optimizer.apply_gradients(zip(taken, [weight]))

    @tf.function
    def steps(iterator):
        for _ in tf.range(3):
            for _ in tf.range(micro_steps - 1):
                strategy.run(add, args=next(iterator))
            strategy.run(apply, args=next(iterator))

    batches = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(batch_size)
    optimizer.rate_fraction.assign(fraction)
    steps(iter(strategy.experimental_distribute_dataset(batches)))
    return weight.numpy()[:, 0].tolist(), int(optimizer.iterations.numpy())


one = tf.distribute.get_strategy()
cases = ((one, 8, 1, 1.0), (one, 2, 4, 0.5), (two, 8, 1, 0.5), (two, 2, 4, 1.0))
json.dump([train(*case) for case in cases], sys.stdout)
"""


@pytest.mark.parametrize("legacy", ["0", "1"], ids=["keras 3", "tf_keras"])
def test_small_batches_on_one_or_two_replicas_take_the_clipped_steps_of_a_large_one(
    tmp_path, legacy
):
    if legacy == "1" and not importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is not installed; `make install` does")
    script = tmp_path / "script.py"  # a file, for AutoGraph reads the source
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": legacy, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *others = json.loads(done.stdout)
    assert np.abs(np.array(whole[0]) - 1).max() > 0.05
    for weights, iterations in (whole, *others):
        np.testing.assert_allclose(weights, whole[0], rtol=1e-5)
        assert iterations == 3
