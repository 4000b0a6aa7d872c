"""Two small networks of a first attempt at melanoma: what a better one has to leave behind.

Their features are flattened, not averaged: at 64 px the linear head alone has 115,200
(`conv-64-32`) or 24,500 (`conv-75-125`) weights a class. Trained from scratch, with as many benign
images as malignant ones, they found none or one in seven of the malignant ones. Backbones as in
`trainer.models.backbones`, whose table names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


def conv_64_32(image: tf.Tensor, weights: str | None = None) -> tf.Tensor:
    """Two 3x3 convolutions of 64 and 32 channels, then all of it flat: [B, 1, 1, C]."""
    import tensorflow as tf

    features = image
    for channels in (64, 32):
        features = tf.keras.layers.Conv2D(channels, 3, activation="relu")(features)
    return flat(features)


def conv_75_125(image: tf.Tensor, weights: str | None = None) -> tf.Tensor:
    """3x3 convolutions of 75 and 125 channels, each pooled 2x2 with dropout 0.15; [B, 1, 1, C]."""
    import tensorflow as tf

    layers, features = tf.keras.layers, image
    for channels in (75, 125):
        features = layers.Conv2D(channels, 3, activation="relu")(features)
        features = layers.MaxPooling2D(2)(features)
        features = layers.Dropout(0.15)(features)
    return flat(features)


def flat(features: Any) -> Any:
    """[B, h, w, C] -> [B, 1, 1, h·w·C]: a map of one place, which pooling leaves as it is."""
    import tensorflow as tf

    height, width, channels = features.shape[1:]
    return tf.keras.layers.Reshape((1, 1, height * width * channels))(features)
