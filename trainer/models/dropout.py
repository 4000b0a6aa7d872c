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
        # Not `if training`: while tf_keras builds a graph it is a placeholder.
        if training is not True or not self.rate:
            return inputs
        assert hasattr(_step, "seed"), "dropout in training needs `dropout_seeded` around it"
        # By name, for each device would choose an algorithm of its own.
        seed = tf.random.experimental.stateless_fold_in(_step.seed, _step.calls, alg="philox")
        _step.calls += 1
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, seed, rng_alg="philox", noise_shape=self.noise_shape
        )


def seed_dropout(model: Any) -> None:
    """Makes every Dropout of a built model a `SeededDropout`, in place.

    By its class, for `keras.applications` offers no other place, and a clone of the model would
    have to carry over its published weights.
    """
    for layer in model.layers:
        if type(layer) is tf.keras.layers.Dropout:
            layer.__class__ = SeededDropout
