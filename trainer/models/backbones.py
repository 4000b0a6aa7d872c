"""Backbones by name: images in, a map of features out.

A backbone is a function `(image, weights) -> features`: float32 [B, S, S, 3] in [0, 1] to float32
[B, h, w, C], in the Keras functional style. A new one is a function and a line in `BACKBONES`.
TensorFlow is imported where it is first needed: the config check reads the table before that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pipeline.errors import DataError
from trainer.models.deck_cnns import conv_64_32, conv_75_125

if TYPE_CHECKING:
    import tensorflow as tf

Weights = Literal["imagenet"] | None
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


class WeightsError(DataError):
    """Published weights could not be had."""


def small_cnn(image: tf.Tensor, weights: Weights) -> tf.Tensor:
    """Five 3x3 convolutions, each halving the sides, 16 to 128 channels: 0.19 million parameters.

    For 64 to 96 px on a CPU, where an epoch of 800 images takes half a second and a dozen will do.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    features = layers.Rescaling(2.0, offset=-1.0)(image)
    for channels in (16, 32, 64, 96, 128):
        features = layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False)(features)
        features = layers.BatchNormalization()(features)
        features = layers.ReLU()(features)
    return features


def efficientnet(image: tf.Tensor, weights: Weights, *, variant: str) -> tf.Tensor:
    """EfficientNet B0 to B7 without its top: Tan and Le 2019 (arXiv 1905.11946).

    Keras' model takes [0, 255] and holds its input normalisation in a layer whose state comes with
    the published weights. Without them that layer would be the identity, so it is set here to what
    they amount to.
    """
    import tensorflow as tf

    inputs = tf.keras.layers.Rescaling(255.0)(image)
    try:
        model = getattr(tf.keras.applications, f"EfficientNet{variant}")(
            include_top=False,
            weights=weights,
            input_tensor=inputs,
        )
    except Exception as error:
        # A failed download is a bare Exception in Keras, a broken file an OSError; what is neither
        # is not about weights.
        if weights is None or not (type(error) is Exception or isinstance(error, OSError)):
            raise
        raise WeightsError(
            f"model: weights must be reachable, got {type(error).__name__} for {weights!r} of "
            f"EfficientNet{variant}; run once with a network "
            "(Keras keeps them in ~/.keras/models), or drop model.weights"
        ) from error
    if weights is None:
        [normalization] = [
            layer for layer in model.layers if isinstance(layer, tf.keras.layers.Normalization)
        ]
        normalization.adapt_mean.assign(IMAGENET_MEAN)
        normalization.adapt_variance.assign([std**2 for std in IMAGENET_STD])
        normalization.finalize_state()
    return model.output


BACKBONES: dict[str, Callable[[tf.Tensor, Weights], tf.Tensor]] = {
    "small-cnn": small_cnn,
    "conv-64-32": conv_64_32,
    "conv-75-125": conv_75_125,
    **{f"efficientnet-b{n}": functools.partial(efficientnet, variant=f"B{n}") for n in range(8)},
}
