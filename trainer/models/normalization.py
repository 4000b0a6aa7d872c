"""The layer that an EfficientNet's input goes through first, computed from its weights alone.

`trainer.models.backbones` puts it in place of Keras' own, which computes with constants that it
made of its weights once: what is restored or copied into it later would change nothing.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class LiveNormalization(tf.keras.layers.Normalization):
    """float [B, H, W, C] -> (inputs - mean) / sqrt(variance), a mean and variance a channel."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = (
            tf.cast(tf.convert_to_tensor(weight), tf.float32)
            for weight in (self.adapt_mean, self.adapt_variance)
        )
        normalised = (tf.cast(inputs, tf.float32) - mean) / tf.sqrt(tf.maximum(variance, 1e-14))
        return tf.cast(normalised, self.compute_dtype)


def make_live(layer: Any) -> None:
    """Makes a built Normalization layer of Keras a live one, in place."""
    layer.__class__ = LiveNormalization  # `keras.applications` offers no other place
