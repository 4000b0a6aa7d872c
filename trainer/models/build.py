"""A model from its config: `inputs: dict` to a dict of logits by head.

`trainer.running.setup` builds one a fold, inside the strategy's scope.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.models.backbones import BACKENDS
from trainer.models.config import BatchNorm, ModelConfig
from trainer.models.dropout import seed_dropout
from trainer.models.fused_norm import fuse_norms
from trainer.models.fusion import fuse
from trainer.models.heads import classify, pool
from trainer.models.weights import load_weights


def build_model(
    config: ModelConfig, *, image_size_px: int, metadata_width: int, outputs: int
) -> Any:
    """A Keras model: float32 `image` [B, S, S, 3] in [0, 1] (and `metadata` [B, D] when fused)
    to `{"target": float32 [B, outputs]}` logits.

    Raises:
      WeightsError: `config.weights` could not be had, or are not of this backbone.
    """
    inputs = {"image": tf.keras.Input((image_size_px, image_size_px, 3), name="image")}
    feature_map = BACKENDS[config.backend][config.backbone](inputs["image"])
    backbone = tf.keras.Model(inputs["image"], feature_map)
    if config.weights:
        load_weights(backbone, config.weights, name=config.backbone, backend=config.backend)
    features = pool(feature_map, config)
    if config.fusion:
        inputs["metadata"] = tf.keras.Input((metadata_width,), name="metadata")
        features = fuse(features, inputs["metadata"], config)
    model = tf.keras.Model(inputs, {"target": classify(features, outputs, config)})
    seed_dropout(model)
    set_batch_norm(model, config.batch_norm, config.batch_norm_momentum)
    if _is_fused(config):
        fuse_norms(model)
    if config.batch_norm == "frozen":
        for layer in _batch_norms(backbone):  # metadata's are new, and have statistics to find
            layer.trainable = False  # Keras then normalises by the moving statistics
    return model


def set_batch_norm(model: Any, mode: BatchNorm, momentum: float | None) -> None:
    """Sets both on every BatchNormalization of a built model, for backbones offer no setting.

    A layer looks at them when it is called, not when it is built.
    """
    for layer in _batch_norms(model):
        if momentum is not None:
            layer.momentum = momentum
        if mode == "synchronised":
            layer.synchronized = True
            layer.fused = False  # tf_keras: its fused kernel sees one replica only


def _is_fused(config: ModelConfig) -> bool:
    """By default in bfloat16, in which TPUs compute; on a CPU a step takes 0.99 of the time."""
    if config.fused_norm is not None:
        return config.fused_norm
    return tf.keras.mixed_precision.global_policy().compute_dtype == "bfloat16"


def _batch_norms(model: Any) -> list[Any]:
    kind = tf.keras.layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kind)]
