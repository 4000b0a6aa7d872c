"""`trainer.averaging`: the average's recurrence, and weights that come back as they were."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from trainer.averaging import ExponentialAverage

WEIGHTS = np.random.default_rng(0).normal(size=(40, 3))


def averaged(decay, steps=40, jit_compile=False):
    weight = tf.Variable(np.float32(WEIGHTS[0]))
    average = ExponentialAverage([weight], decay)
    update = tf.function(average.update, jit_compile=jit_compile)
    for value in WEIGHTS[1:steps]:
        weight.assign(np.float32(value))
        update()
    return average, weight


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_the_average_warms_up_to_its_decay(decay, jit_compile):
    expected = WEIGHTS[0]
    for done, value in enumerate(WEIGHTS[1:]):
        d = min(decay, (1 + done) / (10 + done))
        expected = d * expected + (1 - d) * value
    average, weight = averaged(decay, jit_compile=jit_compile)
    with average.swapped():
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_after_the_block_the_very_weights_are_back_also_when_it_fails():
    average, weight = averaged(0.9)
    before = weight.numpy()
    with contextlib.suppress(KeyError), average.swapped():
        assert (weight.numpy() != before).all()
        raise KeyError
    np.testing.assert_array_equal(weight.numpy(), before)
    with average.swapped():
        first = weight.numpy()
    with average.swapped():
        np.testing.assert_array_equal(weight.numpy(), first)


def test_a_counter_among_the_weights_stays():
    weight, counter = tf.Variable([1.0]), tf.Variable(5, dtype=tf.int64)
    average = ExponentialAverage([counter, weight], 0.9)
    weight.assign([2.0])
    average.update()
    with average.swapped():
        assert int(counter) == 5
        np.testing.assert_allclose(weight.numpy(), [1.9])


def test_an_average_goes_on_from_its_checkpoint(tmp_path):
    whole, weight = averaged(0.9)
    with whole.swapped():
        expected = weight.numpy()
    first, _ = averaged(0.9, steps=20)
    path = first.state.write(str(tmp_path / "average"))
    weight = tf.Variable(tf.zeros(3))
    second = ExponentialAverage([weight], 0.9)
    second.state.read(path).assert_consumed()
    for value in WEIGHTS[20:]:
        weight.assign(np.float32(value))
        second.update()
    with second.swapped():
        np.testing.assert_array_equal(weight.numpy(), expected)


SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
from trainer.averaging import ExponentialAverage
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.strategy import make_strategy

strategy = make_strategy(None, 2, 8)
tf.keras.utils.set_random_seed(1)
with strategy.scope():
    image = tf.keras.Input((4,))
    features = tf.keras.layers.BatchNormalization(momentum=0.5)(tf.keras.layers.Dense(3)(image))
    model = tf.keras.Model(image, tf.keras.layers.Dense(1)(features))
    weights = model.trainable_variables
    optimizer = build_optimizer(OptimizerConfig(kind="sgd"), np.full(9, 0.1, np.float32), weights)
    average = ExponentialAverage(model.weights, 0.5)


def step(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - 1.0) ** 2) / 2
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
    average.update()


@tf.function
def train(iterator):
    for _ in tf.range(5):
        strategy.run(step, args=(next(iterator),))


def copies():
    # [weight][replica]: every copy there is
    return [
        [copy.numpy().tolist() for copy in strategy.experimental_local_results(weight)]
        for weight in (getattr(w, "value", w) if not isinstance(w, tf.Variable) else w
                       for w in model.weights)
    ]


x = np.random.default_rng(0).normal(size=(40, 4)).astype("f")
train(iter(strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(x).batch(8))))
before = copies()
with average.swapped():
    inside = copies()
json.dump({"names": [w.name for w in model.weights], "before": before, "inside": inside,
           "after": copies()}, sys.stdout)
"""


@pytest.mark.parametrize("legacy", ["0", "1"], ids=["keras 3", "tf_keras"])
def test_two_replicas_hold_one_average_and_get_their_own_statistics_back(tmp_path, legacy):
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
    told = json.loads(done.stdout)
    assert told["after"] == told["before"]
    is_of_a_replica = []
    for name, before, inside in zip(told["names"], told["before"], told["inside"], strict=True):
        assert len(inside) == 2
        assert inside != before, name
        is_of_a_replica.append(before[0] != before[1])
        assert is_of_a_replica[-1] == ("moving" in name) == (inside[0] != inside[1])
    assert sum(is_of_a_replica) == 2
