"""Metadata beside an image's features: `concat` and `film`.

`trainer.models.build` calls `fuse`. Metadata goes through layers of `fusion_units`, each a linear
one, BatchNorm and swish, with dropout between them. In training it may be hidden, whole or value by
value: a network that leans on it alone is right about every training image and wrong about others.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.models.config import ModelConfig
from trainer.models.dropout import HidingDropout


def fuse(features: tf.Tensor, metadata: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """float [B, C] and float32 [B, D] -> float [B, C'] by `config.fusion`."""
    assert config.fusion
    return FUSIONS[config.fusion](features, _encode(metadata, config))


def concat(features: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """float [B, C] and [B, H] -> [B, C + H], side by side.

    With 512 and 128 units as Ha et al. 2020 (arXiv 2010.05351), first in SIIM-ISIC 2020.
    """
    return tf.keras.layers.Concatenate(name="fusion_concat")([features, encoded])


def film(features: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """float [B, C] and [B, H] -> [B, C]: pooled features by 1 + scale, plus shift, from metadata.

    FiLM: Perez et al. 2018 (arXiv 1709.07871). After averaging it amounts to the same on the last
    map. Scale and shift begin at zero, so an image-only network with this head gives the same
    logits before the first step.
    """
    layers, channels = tf.keras.layers, features.shape[-1]
    scale, shift = (
        layers.Dense(channels, kernel_initializer="zeros", name=f"fusion_{name}")(encoded)
        for name in ("scale", "shift")
    )
    scaled = layers.Multiply(name="fusion_scaled")([features, scale])
    return layers.Add(name="fusion_film")([features, scaled, shift])


def _encode(metadata: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """float32 [B, D] -> float [B, H], H the last of `fusion_units`; D where there are none."""
    layers = tf.keras.layers
    if config.metadata_dropout:
        whole = HidingDropout(config.metadata_dropout, noise_shape=(None, 1), name="fusion_hide")
        metadata = whole(metadata)
    if config.metadata_column_dropout:
        # A category shows in one of its columns alone: to hide that one hides the category.
        metadata = HidingDropout(config.metadata_column_dropout, name="fusion_hide_columns")(
            metadata
        )
    for number, width in enumerate(config.fusion_units):
        if number and config.fusion_dropout:
            drop = layers.Dropout(config.fusion_dropout, name=f"fusion_dropout_{number}")
            metadata = drop(metadata)
        metadata = layers.Dense(width, use_bias=False, name=f"fusion_dense_{number}")(metadata)
        metadata = layers.BatchNormalization(name=f"fusion_bn_{number}")(metadata)
        metadata = layers.Activation("swish", name=f"fusion_swish_{number}")(metadata)
    return metadata


FUSIONS = {"concat": concat, "film": film}
