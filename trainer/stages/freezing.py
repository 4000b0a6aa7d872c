"""Which layers of a model move in a stage, and how fast.

`trainer.running.setup` calls it on a new model, before the optimizer and the loop ask it for its
trainable variables.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from pipeline.errors import SettingsError
from trainer.models.groups import backbone_blocks, layer_groups
from trainer.stages.config import GroupRates, StageConfig, stage_key


def check_blocks(model: Any, stages: Sequence[StageConfig]) -> None:
    """Raises SettingsError for a stage that unfreezes more blocks than the backbone has.

    Before the first stage is trained: the last one's mistake is told now, not in the morning.
    """
    blocks = backbone_blocks(model)
    for place, stage in enumerate(stages):
        if (stage.unfreeze_blocks or 0) > len(blocks):
            raise SettingsError(
                f"{stage_key(place, len(stages))}.unfreeze_blocks must be {len(blocks)} or less "
                f"(the backbone's {', '.join(blocks)}), got {stage.unfreeze_blocks}"
            )


def freeze(model: Any, stage: StageConfig) -> list[str]:
    """Freezes the layers that a stage leaves as they are; their groups' names.

    A frozen layer computes as it predicts, so that what trains sees the features that it will see:
    Keras' BatchNorm does so by itself, a dropout or drop-connect is switched off.
    """
    if stage.freeze is None:
        return []
    blocks = backbone_blocks(model)
    frozen = blocks[: len(blocks) - (stage.unfreeze_blocks or 0)]
    groups = layer_groups(model)
    for layer in itertools.chain.from_iterable(groups[name] for name in frozen):
        layer.trainable = False
        if isinstance(layer, tf.keras.layers.Dropout):
            layer.rate = 0.0
    return frozen


def rate_factors(model: Any, rates: GroupRates) -> list[float]:
    """The factor of each of `model.trainable_variables`, in their order."""
    factors = dataclasses.asdict(rates)
    by_variable = {
        id(variable): factors.get(name, rates.backbone)
        for name, layers in layer_groups(model).items()
        for layer in layers
        for variable in layer.trainable_variables
    }
    return [by_variable[id(variable)] for variable in model.trainable_variables]
