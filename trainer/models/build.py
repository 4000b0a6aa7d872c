"""A model from its config: `inputs: dict` to a dict of logits by head.

`trainer.fold_run` builds one a fold, inside the strategy's scope.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.models.backbones import BACKBONES
from trainer.models.config import BatchNorm, ModelConfig
from trainer.models.dropout import seed_dropout


def build_model(
    config: ModelConfig, *, image_size_px: int, metadata_width: int, outputs: int
) -> Any:
    """A Keras model: float32 `image` [B, S, S, 3] in [0, 1] (and `metadata` [B, D] when fused)
    to `{"target": float32 [B, outputs]}` logits.
    """
    layers = tf.keras.layers
    inputs = {"image": tf.keras.Input((image_size_px, image_size_px, 3), name="image")}
    features = BACKBONES[config.backbone](inputs["image"], config.weights)
    features = layers.GlobalAveragePooling2D()(features)
    if config.fusion:
        inputs["metadata"] = tf.keras.Input((metadata_width,), name="metadata")
        features = FUSIONS[config.fusion](features, inputs["metadata"], config)
    features = layers.Dropout(config.dropout)(features)
    # Logits stay float32 whatever the precision of the layers before them.
    logits = layers.Dense(outputs, dtype="float32", name="target")(features)
    model = tf.keras.Model(inputs, {"target": logits})
    seed_dropout(model)
    set_batch_norm(model, config.batch_norm, config.batch_norm_momentum)
    return model


def concat(features: tf.Tensor, metadata: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """float32 [B, C] and [B, D] -> [B, C + H]: metadata through its layers, then side by side."""
    for width in config.metadata_hidden:
        metadata = tf.keras.layers.Dense(width, activation="relu")(metadata)
    return tf.keras.layers.Concatenate()([features, metadata])


def set_batch_norm(model: Any, mode: BatchNorm, momentum: float | None) -> None:
    """Sets both on every BatchNormalization of a built model, for backbones offer no setting.

    A layer looks at them when it is called, not when it is built.
    """
    for layer in model.layers:
        if not isinstance(layer, tf.keras.layers.BatchNormalization):
            continue
        if momentum is not None:
            layer.momentum = momentum
        if mode == "frozen":
            layer.trainable = False  # Keras then normalises by the moving statistics
        if mode == "synchronised":
            layer.synchronized = True
            layer.fused = False  # tf_keras: its fused kernel sees one replica only


FUSIONS = {"concat": concat}
