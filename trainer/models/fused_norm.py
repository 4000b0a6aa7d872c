"""BatchNorm, swish and squeeze-and-excite in fewer passes over their maps, for a device that waits
for its memory.

`trainer.models.build` calls `fuse_norms`. What is computed stays the same, but for rounding. As
Keras writes it, each map is read once for its mean and once more for its variance, and in the
gradient once for the excitation and once more for BatchNorm's scale and offset. Here:

- mean and variance come from one pass: sums of (x - m) and (x - m)^2, about the moving mean m;
- the gradients of scale and offset are made of sums an image that need no excitation, which are
  taken in the passes that there are: in the squeeze, and where the excited map's gradient is made.

A layer that finds its input to be what an earlier one left computes from that one's input. Layers
that do not follow one another that way, and all of them outside training, compute as Keras'.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

_NORMALISED, _SWISHED = "_foldstream_normalised", "_foldstream_swished"


@dataclasses.dataclass(frozen=True)
class _Normalised:
    """A map before BatchNorm, and what BatchNorm multiplies it by and adds: float32 [C]."""

    x: tf.Tensor
    scale: tf.Tensor
    offset: tf.Tensor


class OnePassBatchNorm(tf.keras.layers.BatchNormalization):
    """float [B, H, W, C] -> the same, normalised over all but C: Ioffe and Szegedy 2015, with the
    batch's statistics in training.

    About the moving mean no digits are lost, as they are about zero when the mean is large.
    """

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        if training is not True or mask is not None or not _is_plain(self):
            return super().call(inputs, training=training, mask=mask)
        x = tf.cast(inputs, tf.float32)
        about = tf.stop_gradient(_float32(self.moving_mean))
        axes = list(range(len(x.shape) - 1))
        shifted = x - about
        first, second = (tf.reduce_mean(power, axes) for power in (shifted, shifted**2))
        mean, variance = about + first, tf.maximum(second - first**2, 0.0)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kept = _float32(moving) * self.momentum
            moving.assign(kept + tf.stop_gradient(batch) * (1 - self.momentum))
        scale = _float32(self.gamma) * tf.math.rsqrt(variance + self.epsilon)
        offset = _float32(self.beta) - mean * scale
        outputs = tf.cast(x * scale + offset, self.compute_dtype)
        setattr(outputs, _NORMALISED, _Normalised(inputs, scale, offset))
        return outputs


class FollowedActivation(tf.keras.layers.Activation):
    """An activation that tells the next layer which map it was made of."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)
        normalised = getattr(inputs, _NORMALISED, None)
        if normalised is not None and _is_swish(self.activation):
            setattr(outputs, _SWISHED, normalised)
        return outputs


class SqueezingPool(tf.keras.layers.GlobalAveragePooling2D):
    """float [B, H, W, C] -> [B, C], the mean over places."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        normalised = getattr(inputs, _SWISHED, None)
        if normalised is None or self.keepdims:
            return super().call(inputs)
        pooled = _pooled(normalised.x, normalised.scale, normalised.offset)
        return tf.cast(pooled, self.compute_dtype)


class ExcitingMultiply(tf.keras.layers.Multiply):
    """float [B, H, W, C] and [B, 1, 1, C] -> [B, H, W, C], the product."""

    def call(self, inputs: Any) -> tf.Tensor:
        normalised = getattr(inputs[0], _SWISHED, None) if len(inputs) == 2 else None
        if normalised is None or inputs[1].shape[1:3] != (1, 1):
            return super().call(inputs)
        return _excited(normalised.x, normalised.scale, normalised.offset, inputs[1])


_KINDS = (OnePassBatchNorm, FollowedActivation, SqueezingPool, ExcitingMultiply)


def fuse_norms(model: Any) -> None:
    """Makes the layers of a built model these, in place: their class alone changes."""
    for layer in model.layers:
        for kind in _KINDS:
            if type(layer) is kind.__base__:
                layer.__class__ = kind  # `keras.applications` offers no other place


@tf.custom_gradient
def _pooled(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
    """float [B, H, W, C], float32 [C] twice -> float32 [B, C]: means of swish(x scale + offset)."""
    value, slope = _swish(x, scale, offset)
    slopes, slopes_x = _mean(slope), _mean(slope * tf.cast(x, tf.float32))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        places = x.shape[1] * x.shape[2]
        by_x = (upstream / places)[:, None, None] * slope * scale
        return (
            tf.cast(by_x, x.dtype),
            tf.reduce_sum(upstream * slopes_x, 0),
            tf.reduce_sum(upstream * slopes, 0),
        )

    return _mean(value), gradient


@tf.custom_gradient
def _excited(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, share: tf.Tensor) -> Any:
    """float [B, H, W, C], float32 [C] twice and float [B, 1, 1, C] -> float [B, H, W, C]:
    swish(x scale + offset) share.
    """
    value, slope = _swish(x, scale, offset)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        above, own = tf.cast(upstream, tf.float32), tf.cast(share, tf.float32)
        sloped = above * slope
        # Sums an image, before the share is multiplied in: one pass makes all three.
        by_share, by_offset, by_scale = (
            tf.reduce_sum(term, [1, 2], keepdims=True)
            for term in (above * value, sloped, sloped * tf.cast(x, tf.float32))
        )
        return (
            tf.cast(sloped * own * scale, x.dtype),
            tf.reduce_sum(by_scale * own, [0, 1, 2]),
            tf.reduce_sum(by_offset * own, [0, 1, 2]),
            tf.cast(by_share, share.dtype),
        )

    return tf.cast(value, share.dtype) * share, gradient


def _swish(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 swish(x scale + offset), and its slope there."""
    y = tf.cast(x, tf.float32) * scale + offset
    gate = tf.sigmoid(y)
    return y * gate, gate * (1 + y * (1 - gate))


def _float32(variable: Any) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)


def _mean(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, [1, 2])


def _is_plain(layer: Any) -> bool:
    """Of this replica's batch alone, over the last axis, with a scale and an offset."""
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    return bool(
        layer.trainable
        and axis in (-1, 3)
        and not layer.synchronized
        and not getattr(layer, "renorm", False)
        and layer.gamma is not None
        and layer.beta is not None
    )


def _is_swish(activation: Any) -> bool:
    return getattr(activation, "__name__", "") in ("silu", "swish")
