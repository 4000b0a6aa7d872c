"""`trainer.loop`: steps, calls, masks and clipping, on a net small enough to follow."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 2, 64)
IMAGES = (RNG.random((64, 4, 4, 3)) * 0.5 + TARGETS[:, None, None, None] * 0.5).astype(np.float32)


def batches(size=8, mask=None):
    mask = np.ones(len(TARGETS), np.float32) if mask is None else mask
    inputs = {"image": IMAGES, "row": np.arange(len(TARGETS))}
    return tf.data.Dataset.from_tensor_slices((inputs, {"target": TARGETS}, mask)).batch(size)


def make_loop(steps_per_call=4, rate=0.1, dropout=0.0, **optimizer):
    tf.keras.utils.set_random_seed(1)
    image = tf.keras.Input((4, 4, 3), name="image")
    features = tf.keras.layers.Flatten()(image)
    features = tf.keras.layers.Dense(8, activation="relu")(features)
    features = tf.keras.layers.Dropout(dropout)(features)
    model = tf.keras.Model({"image": image}, {"target": tf.keras.layers.Dense(1)(features)})
    config = OptimizerConfig(**{"kind": "sgd", **optimizer})
    rates = np.full(100, rate, np.float32)
    return Loop(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(config, rates, model.trainable_variables),
        losses=(LossConfig(kind="bce"),),
        batch_size=8,
        steps_per_call=steps_per_call,
        clip_norm=config.clip_norm,
    )


def weights(loop):
    return [variable.numpy() for variable in loop.model.trainable_variables]


def assert_equal_weights(first, second):
    for one, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_loss_falls(kind):
    loop = make_loop(kind=kind, rate=0.05, weight_decay=1e-3)
    losses = [loop.train(batches(), 8) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]


def test_several_steps_a_call_are_the_same_steps():
    one, several, uneven = make_loop(1), make_loop(8), make_loop(3)
    losses = [loop.train(batches(), 8) for loop in (one, several, uneven)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    assert_equal_weights(one, several)
    assert_equal_weights(one, uneven)


def test_the_same_seed_gives_the_same_weights_with_dropout_as_well():
    first, second = make_loop(dropout=0.5), make_loop(dropout=0.5)
    for loop in (first, second):
        loop.train(batches(), 8)
    assert_equal_weights(first, second)


def test_one_step_is_the_gradient_of_the_mean_loss_times_the_rate():
    loop = make_loop()
    kernel = loop.model.trainable_variables[-2]
    before = kernel.numpy()
    with tf.GradientTape() as tape:
        logits = loop.model({"image": IMAGES[:8]})["target"][:, 0]
        labels = TARGETS[:8].astype(np.float32)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    gradient = tape.gradient(loss, kernel).numpy()
    assert loop.train(batches(), 1) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(kernel.numpy(), before - 0.1 * gradient, atol=1e-6)


def test_the_rates_are_taken_step_by_step():
    loop = make_loop()
    rates = np.zeros(8, np.float32)
    rates[3] = 0.1
    loop.optimizer = build_optimizer(
        OptimizerConfig(kind="sgd"), rates, loop.model.trainable_variables
    )
    before = weights(loop)
    loop.train(batches(), 3)
    np.testing.assert_array_equal(weights(loop)[0], before[0])
    loop.train(batches(), 1)
    assert (weights(loop)[0] != before[0]).any()


def test_clipping_bounds_the_step_of_all_weights_together():
    free, clipped = make_loop(rate=1.0), make_loop(rate=1.0, clip_norm=0.01)
    lengths = []
    for loop in (free, clipped):
        before = weights(loop)
        loop.train(batches(), 1)
        moved = [(new - old).ravel() for new, old in zip(weights(loop), before, strict=True)]
        lengths.append(np.linalg.norm(np.concatenate(moved)))
    assert lengths[0] > 0.05
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def test_training_stops_at_the_call_whose_loss_is_not_finite():
    loop = make_loop(rate=1e30, steps_per_call=4)
    assert not np.isfinite(loop.train(batches(), 8))
    assert int(loop.optimizer.iterations) == 4


def test_prediction_gives_each_unmasked_row_once_and_is_the_models():
    mask = (np.arange(64) < 50).astype(np.float32)
    loop = make_loop(dropout=0.5)
    rows, logits = loop.predict(batches(mask=mask))
    np.testing.assert_array_equal(rows, np.arange(50))
    np.testing.assert_allclose(logits, loop.model({"image": IMAGES[:50]})["target"], atol=1e-6)


def test_optimizer_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="learning_rate must be above 0 and finite, got 0"):
        OptimizerConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match="clip_norm must be above 0"):
        OptimizerConfig(clip_norm=0.0)


def test_weight_decay_leaves_biases_alone():
    loop = make_loop(kind="adamw", rate=0.1, weight_decay=0.5)
    kernel, bias = loop.model.trainable_variables[:2]
    bias.assign(tf.ones_like(bias))
    kernel.assign(tf.ones_like(kernel))
    nothing = np.zeros(64, np.float32)
    loop.train(batches(mask=nothing), 1)
    np.testing.assert_allclose(kernel.numpy(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(bias.numpy(), 1.0)
