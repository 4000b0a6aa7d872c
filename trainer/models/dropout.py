"""Dropout whose mask is a function of (seed, step, replica): nothing of it is kept between steps.

`trainer.models.build` puts it in place of every Keras Dropout (EfficientNet's drop-connect is one),
`trainer.loop` seeds it anew each step. Keras' own draws from a state that neither flavour of it
saves in a checkpoint, so a run that was killed would go on with other numbers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_step = threading.local()  # a strategy traces each replica in a thread of its own


@contextlib.contextmanager
def dropout_seeded(seed: tf.Tensor) -> Iterator[None]:
    """Within it models may be called with `training=True`: int [2] seed of this step and replica.

    The n-th layer that is called draws from the seed folded with n; a layer that is called several
    times draws anew each time.
    """
    _step.seed, _step.calls = seed, 0
    try:
        yield
    finally:
        del _step.seed


class SeededDropout(tf.keras.layers.Dropout):
    """Keras' Dropout, drawing from the seed of `dropout_seeded`."""

    def call(self, inputs: tf.Tensor, training: Any = False) -> tf.Tensor:
        if not _drops(training, self.rate):
            return inputs
        shape = _mask_shape(inputs, self.noise_shape)
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, next_seed(), rng_alg="philox", noise_shape=shape
        )


class HidingDropout(tf.keras.layers.Dropout):
    """Dropout that leaves what it keeps as it is: zero then means "not told", not "less".

    For metadata, whose values in training have to be those of prediction.
    """

    def call(self, inputs: tf.Tensor, training: Any = False) -> tf.Tensor:
        if not _drops(training, self.rate):
            return inputs
        shape = _mask_shape(inputs, self.noise_shape)
        draws = tf.random.stateless_uniform(shape, next_seed(), alg="philox")
        return inputs * tf.cast(draws >= self.rate, inputs.dtype)


def next_seed() -> tf.Tensor:
    """int64 [2]: of this step, replica and call, within `dropout_seeded`."""
    assert hasattr(_step, "seed"), "dropout in training needs `dropout_seeded` around it"
    # By name, for each device would choose an algorithm of its own.
    seed = tf.random.experimental.stateless_fold_in(_step.seed, _step.calls, alg="philox")
    _step.calls += 1
    return seed


def _mask_shape(inputs: tf.Tensor, noise_shape: Any) -> list[Any]:
    """`noise_shape` with the inputs' sizes where it says None, also those of an unknown batch."""
    of_inputs = [
        tf.shape(inputs)[n] if size is None else size for n, size in enumerate(inputs.shape)
    ]
    sizes = noise_shape or [None] * len(of_inputs)
    return [there if size is None else size for size, there in zip(sizes, of_inputs, strict=True)]


def _drops(training: Any, rate: float) -> bool:
    # Not `if training`: while tf_keras builds a graph it is a placeholder.
    return training is True and rate > 0


def seed_dropout(model: Any) -> None:
    """Makes every Dropout of a built model a `SeededDropout`, in place, the package's as well.

    By its class, for `keras.applications` offers no other place, and a clone of the model would
    have to carry over its published weights.
    """
    for layer in model.layers:
        is_ours = isinstance(layer, (SeededDropout, HidingDropout))
        if isinstance(layer, tf.keras.layers.Dropout) and not is_ours:
            layer.__class__ = SeededDropout
