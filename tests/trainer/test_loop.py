"""`trainer.loop`: steps, calls, masks, clipping, random numbers; on a net small enough to follow.

`test_legacy_keras` runs these tests on tf_keras as well.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records.label import LabelInfo
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.models.dropout import SeededDropout
from trainer.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer
from trainer.precision import set_precision
from trainer.score_histogram import BINS, streaming_auc

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 2, 64)
IMAGES = (RNG.random((64, 4, 4, 3)) * 0.5 + TARGETS[:, None, None, None] * 0.5).astype(np.float32)
BINARY = LabelInfo(kind="binary", classes=("benign", "malignant"))


def batches(mask=None, images=IMAGES, repeats=None):
    mask = np.ones(len(TARGETS), np.float32) if mask is None else mask
    data = {"image": images, "row": np.arange(len(TARGETS))}, {"target": TARGETS}, mask

    def make(context):
        size = context.get_per_replica_batch_size(8)
        dataset = tf.data.Dataset.from_tensor_slices(data).repeat(repeats)
        return dataset.batch(size, drop_remainder=True)

    return make


def make_model(dropout):
    tf.keras.utils.set_random_seed(1)
    image = tf.keras.Input((4, 4, 3), name="image")
    features = tf.keras.layers.Flatten()(image)
    features = tf.keras.layers.Dense(8, activation="relu")(features)
    features = SeededDropout(dropout)(features)
    return tf.keras.Model({"image": image}, {"target": tf.keras.layers.Dense(1)(features)})


def make_loop(
    steps_per_call=4,
    rate=0.1,
    dropout=0.0,
    accumulate=1,
    optimizer=None,
    model=None,
    kind=Loop,
    **settings,
):
    model = model or make_model(dropout)
    config = OptimizerConfig(**{"kind": "sgd", "learning_rate": rate, **(optimizer or {})})
    rates = np.full(100, rate, np.float32)
    return kind(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(config, rates, model.trainable_variables),
        losses=(LossConfig(kind="bce"),),
        batch_size=8,
        steps_per_call=steps_per_call,
        clip_norm=config.clip_norm,
        label=BINARY,
        accumulate=accumulate,
        **settings,
    )


def take(loop, steps, make=None, first_step=0):
    """The losses of so many steps, in calls as long as the loop allows."""
    iterator = loop.iterate(make or batches())
    losses = []
    for done in range(0, steps, loop.steps_per_call):
        count = min(loop.steps_per_call, steps - done)
        losses.append(loop.train(iterator, first_step + done, count).losses)
    return np.concatenate(losses)


def weights(loop):
    return [variable.numpy() for variable in loop.model.trainable_variables]


def assert_equal_weights(first, second):
    for one, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_loss_falls(kind):
    losses = take(make_loop(rate=0.01 if kind == "rmsprop" else 0.05, optimizer={"kind": kind}), 80)
    assert losses[-8:].mean() < 0.8 * losses[:8].mean()


def test_several_steps_a_call_are_the_same_steps():
    one, several, uneven = make_loop(1), make_loop(8), make_loop(3)
    losses = [take(loop, 8) for loop in (one, several, uneven)]
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-6)
    assert_equal_weights(one, several)
    assert_equal_weights(one, uneven)


def test_one_step_is_the_gradient_of_the_mean_loss_times_the_rate():
    loop = make_loop()
    kernel = loop.model.trainable_variables[-2]
    before = kernel.numpy()
    with tf.GradientTape() as tape:
        logits = loop.model({"image": IMAGES[:8]})["target"][:, 0]
        labels = TARGETS[:8].astype(np.float32)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    gradient = tape.gradient(loss, kernel).numpy()
    assert take(loop, 1)[0] == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(kernel.numpy(), before - 0.1 * gradient, atol=1e-6)


def test_the_mask_weighs_the_examples():
    mask = np.zeros(64, np.float32)
    mask[0] = 2.0
    logit = float(make_loop().model({"image": IMAGES[:1]})["target"][0, 0])
    loss = np.logaddexp(0, logit) - logit * TARGETS[0]
    assert take(make_loop(), 1, batches(mask))[0] == pytest.approx(2 * loss / 8, rel=1e-5)


def test_accumulated_batches_make_the_step_of_one_large_batch():
    loop = make_loop(accumulate=4)
    reference = make_loop()
    with tf.GradientTape() as tape:
        logits = reference.model({"image": IMAGES[:32]})["target"][:, 0]
        labels = TARGETS[:32].astype(np.float32)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, reference.model.trainable_variables)
    assert take(loop, 1)[0] == pytest.approx(float(loss), rel=1e-5)
    for new, old, gradient in zip(weights(loop), weights(reference), gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient.numpy(), atol=1e-6)
    assert int(loop.optimizer.iterations) == 1


def test_clipping_bounds_the_step_of_all_weights_together():
    free, clipped = make_loop(rate=1.0), make_loop(rate=1.0, optimizer={"clip_norm": 0.01})
    lengths = []
    for loop in (free, clipped):
        before = weights(loop)
        take(loop, 1)
        moved = [(new - old).ravel() for new, old in zip(weights(loop), before, strict=True)]
        lengths.append(np.linalg.norm(np.concatenate(moved)))
    assert lengths[0] > 0.05
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_is_told_with_its_step():
    mask = np.ones(64, np.float32)
    mask[8 * 2] = np.inf
    losses = take(make_loop(), 4, batches(mask))
    np.testing.assert_array_equal(np.isfinite(losses), [True, True, False, False])


def test_uint8_images_are_their_fractions_of_255():
    pixels = (IMAGES * 255).astype(np.uint8)
    as_bytes = take(make_loop(), 4, batches(images=pixels))
    as_floats = take(make_loop(), 4, batches(images=(pixels / 255).astype(np.float32)))
    np.testing.assert_allclose(as_bytes, as_floats, rtol=1e-6)


def test_dropout_is_a_function_of_seed_and_step():
    whole = make_loop(dropout=0.5, seed=3)
    losses = take(whole, 8)
    stopped, continued = make_loop(dropout=0.5, seed=3), make_loop(dropout=0.5, seed=3)
    first = take(stopped, 4)
    continued.model.set_weights(stopped.model.get_weights())
    rest = take(continued, 4, lambda context: batches()(context).skip(4), first_step=4)
    np.testing.assert_array_equal(losses, [*first, *rest])
    assert_equal_weights(whole, continued)


def test_dropout_differs_from_step_to_step_and_from_seed_to_seed():
    def one_batch(context):
        return batches()(context).take(1).repeat()

    losses = take(make_loop(dropout=0.5, rate=1e-9, seed=3), 8, one_batch)
    others = take(make_loop(dropout=0.5, rate=1e-9, seed=4), 8, one_batch)
    assert len(np.unique(np.concatenate([losses, others]))) == 16


def test_a_mix_is_applied_in_training_with_a_seed_that_differs_each_step():
    def brighten(inputs, targets, mask, seed):
        image = inputs["image"] * tf.random.stateless_uniform([], seed)
        return {**inputs, "image": image}, targets, mask

    def one_batch(context):
        return batches()(context).take(1).repeat()

    loop, same = (make_loop(rate=1e-9, mix=brighten) for _ in range(2))
    losses = take(loop, 8, one_batch)
    assert len(np.unique(losses)) == 8
    np.testing.assert_array_equal(losses, take(same, 8, one_batch))
    _, logits = loop.predict(batches(repeats=1))
    np.testing.assert_allclose(logits, loop.model({"image": IMAGES})["target"], atol=1e-6)


def test_the_scores_of_a_call_count_its_known_examples():
    mask = (np.arange(64) < 50).astype(np.float32)
    loop = make_loop(steps_per_call=8, rate=1e-9)
    scores = loop.train(loop.iterate(batches(mask)), 0, 8).scores
    np.testing.assert_array_equal(scores.sum(axis=1), np.bincount(TARGETS[:50]))
    positives = IMAGES[:50][TARGETS[:50] == 1], IMAGES[:50][TARGETS[:50] == 0]
    one, zero = (loop.model({"image": images})["target"].numpy() for images in positives)
    assert streaming_auc(scores) == pytest.approx((one > zero.T).mean(), abs=0.02)


def test_waiting_for_input_is_told_apart_from_computing():
    def wait(number):
        time.sleep(0.05)
        return number

    def slow(context):
        waits = tf.data.Dataset.range(8).map(lambda n: tf.numpy_function(wait, [n], tf.int64))
        return tf.data.Dataset.zip(batches()(context), waits).map(lambda batch, _: batch)

    loop = make_loop(steps_per_call=8)
    loop.train(loop.iterate(batches()), 0, 8)  # compiles
    quick = loop.train(loop.iterate(batches()), 8, 8)
    waiting = loop.train(loop.iterate(slow), 16, 8)
    assert waiting.waited_seconds > 0.3
    assert waiting.waited_seconds <= waiting.seconds
    assert quick.waited_seconds < 0.1


class BusyLoop(Loop):
    """Its step has work for more threads than there are, half of it after its loss is known."""

    def replica_step(self, inputs, targets, mask, number, is_last):
        image = tf.reshape(inputs["image"], [1, -1])
        branches = []
        for branch in range(64):
            value = tf.transpose(image) @ (image + branch)
            for _ in range(4):
                value = tf.tanh(value @ value)
            branches.append(tf.reduce_mean(value))
        for value in branches[32:]:
            self.spent.assign_add(value)
        return tf.add_n(branches[:32]), tf.zeros([2, BINS])


def test_computing_is_no_waiting_however_busy_it_keeps_the_threads():
    loop = make_loop(kind=BusyLoop)
    loop.spent = tf.Variable(0.0)
    for first_step in (0, 4):
        steps = loop.train(loop.iterate(batches()), first_step, 4)
    assert steps.waited_seconds < 0.1 * steps.seconds, f"{steps.waited_seconds} of {steps.seconds}"


@pytest.mark.slow  # another process, for a process's threads are counted once
def test_nor_is_it_on_a_single_thread():
    claim = f"{__file__}::{test_computing_is_no_waiting_however_busy_it_keeps_the_threads.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", claim],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_NUM_INTEROP_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert "1 passed" in done.stdout, done.stdout[-4000:]


def test_prediction_gives_each_unmasked_row_once_and_is_the_models():
    mask = (np.arange(64) < 50).astype(np.float32)
    loop = make_loop(dropout=0.5)
    rows, logits = loop.predict(batches(mask, repeats=1))
    np.testing.assert_array_equal(rows, np.arange(50))
    np.testing.assert_allclose(logits, loop.model({"image": IMAGES[:50]})["target"], atol=1e-6)


def test_prediction_is_by_the_averaged_weights_and_training_goes_on_from_its_own():
    averaged, plain = make_loop(ema_decay=0.9), make_loop()
    for loop in (averaged, plain):
        take(loop, 8)
    _, logits = averaged.predict(batches(repeats=1))
    _, last = plain.predict(batches(repeats=1))
    assert np.abs(logits - last).max() > 1e-3
    assert_equal_weights(averaged, plain)


def test_weights_that_are_not_float32_are_left_out_of_the_average():
    set_precision("bfloat16")  # under which tf_keras keeps a Normalization's mean in bfloat16
    try:
        image = tf.keras.Input((4, 4, 3), name="image")
        features = tf.keras.layers.Flatten()(tf.keras.layers.Normalization()(image))
        logits = tf.keras.layers.Dense(1, dtype="float32")(features)
    finally:
        set_precision("float32")
    model = tf.keras.Model({"image": image}, {"target": logits})
    loop = make_loop(model=model, ema_decay=0.9, precision="bfloat16")
    assert np.isfinite(take(loop, 2)).all()
    assert np.isfinite(loop.predict(batches(repeats=1))[1]).all()


def test_nothing_is_traced_anew_from_epoch_to_epoch():
    loop = make_loop(steps_per_call=4)
    for epoch in range(3):
        take(loop, 6, first_step=6 * epoch)  # calls of 4 and of 2
        loop.predict(batches(repeats=1))
    assert loop._train_steps.experimental_get_tracing_count() == 1
    assert loop.predictor._step.experimental_get_tracing_count() == 1


def test_what_is_tracked_is_enough_to_go_on_bit_by_bit(tmp_path):
    settings = {
        "dropout": 0.5,
        "accumulate": 2,
        "ema_decay": 0.9,
        "precision": "float16",
        "optimizer": {"kind": "adam"},
    }
    whole, stopped, continued = (make_loop(**settings) for _ in range(3))
    losses = take(whole, 6)
    take(stopped, 3)
    path = tf.train.Checkpoint(**stopped.tracked()).write(str(tmp_path / "weights"))
    restored = tf.train.Checkpoint(**continued.tracked()).read(path)
    rest = take(continued, 3, lambda context: batches()(context).skip(6), first_step=3)
    restored.assert_consumed()
    np.testing.assert_array_equal(losses[3:], rest)
    assert_equal_weights(whole, continued)
    for loop in (whole, continued):
        loop.logits = loop.predict(batches(repeats=1))[1]
    np.testing.assert_array_equal(whole.logits, continued.logits)
