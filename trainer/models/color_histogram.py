"""How often each colour occurs in an image, as a layer without weights.

`trainer.models.small_resnet` puts it beside its convolutions. Averaging the last map of a network
keeps which patterns an image holds; how much of it has which colour is lost, though this alone told
of melanoma as well as a small network from scratch did (docs/log.md, baselines).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_SMALLEST = 1e-6  # the root has no slope at zero


class ColorHistogram(tf.keras.layers.Layer):
    """float [B, H, W, 3] in [0, 1] -> float32 [B, 1, 1, cells³]: roots of the shares of RGB cells.

    A pixel counts in the two cells of a channel that it lies between, by its nearness to their
    centres: the counts have slopes, and a pixel that changes a little moves them a little. Roots as
    in the baselines' histogram, for a linear layer sees little but the largest shares.
    """

    def __init__(self, cells: int, *, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._cells = cells

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        cells, channels = self._cells, inputs.shape[-1]
        pixels = tf.reshape(tf.cast(inputs, tf.float32), [tf.shape(inputs)[0], -1, channels])
        places = pixels[..., tf.newaxis] * cells - 0.5 - tf.range(cells, dtype=tf.float32)
        near = tf.nn.relu(1 - tf.abs(places))  # [B, P, 3, cells]
        near /= tf.reduce_sum(near, axis=-1, keepdims=True)  # beyond the outermost centres: whole
        red, green, blue = tf.unstack(near, axis=2)
        pairs = red[..., :, tf.newaxis] * green[..., tf.newaxis, :]
        pairs = tf.reshape(pairs, [tf.shape(pairs)[0], -1, cells**2])
        shares = tf.matmul(pairs, blue, transpose_a=True)  # [B, cells², cells]
        shares /= tf.cast(tf.shape(pixels)[1], tf.float32)
        return tf.sqrt(tf.reshape(shares, [-1, 1, 1, cells**3]) + _SMALLEST)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (input_shape[0], 1, 1, self._cells**3)
