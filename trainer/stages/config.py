"""`[[stage]]`: what a part of the training changes of the recipe, and when it ends.

`trainer.config` checks and resolves the stages, `trainer.fold_run` trains them one after another.
Each starts from the last one's weights and averages, with a new optimizer and a schedule of its own
length. Without any there is one stage, which is the recipe. Starts no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from trainer.schedules import ScheduleConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupRates:
    """Factors on the learning rate, and so on the weight decay, of the model's parts."""

    backbone: float = 1.0
    fusion: float = 1.0
    head: float = 1.0

    def __post_init__(self) -> None:
        for name, factor in dataclasses.asdict(self).items():
            if not 0 < factor < math.inf:
                raise ValueError(
                    f"{name} must be above 0 and finite, got {factor}; freeze what shall not move"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: how long, what of the model trains, and settings in place of the recipe's."""

    epochs: int | None = None  # None, of one stage: what the others leave of train.epochs
    patience_epochs: int | None = None  # ends sooner, after so many without a better train.metric
    # Frozen layers compute as they predict: BatchNorm by its moving statistics, dropout off.
    freeze: Literal["backbone"] | None = None
    unfreeze_blocks: int | None = None  # of the frozen backbone, the last so many train after all
    freeze_batch_norm: bool = False  # of the whole backbone, also where it trains
    learning_rate: float | None = None  # in place of optimizer.learning_rate
    schedule: ScheduleConfig | None = None  # in place of [schedule]; each begins with its stage
    group_rates: GroupRates = GroupRates()
    loss_weights: tuple[float, ...] | None = None  # in place of the weights of [[loss]], in order
    dropout: float | None = None  # in place of model.dropout

    def __post_init__(self) -> None:
        for name in ("epochs", "patience_epochs", "unfreeze_blocks"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.unfreeze_blocks is not None and self.freeze is None:
            raise ValueError(
                "unfreeze_blocks must stand beside freeze = 'backbone', got "
                f"{self.unfreeze_blocks} without it"
            )
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        weights = self.loss_weights
        if weights is not None and not (all(0 <= w < math.inf for w in weights) and any(weights)):
            raise ValueError(
                f"loss_weights must be 0 or more and finite, one above 0, got {list(weights)}"
            )


def stage_key(place: int, stages: int) -> str:
    """The key of a stage as `--set` takes it, such as `stage.0`; `stage` alone of the only one."""
    return f"stage.{place}" if stages > 1 else "stage"


def with_epochs(stages: tuple[StageConfig, ...], total: int) -> tuple[StageConfig, ...]:
    """The stages, each with its epochs; the one that names none has what the others leave.

    Raises:
      ValueError: they do not make `total`.
    """
    if not stages:
        return ()
    given = [stage.epochs for stage in stages if stage.epochs is not None]
    left = total - sum(given)
    if len(given) == len(stages) and left:
        raise ValueError(
            f"stage: epochs must add up to train.epochs, {total}, got "
            f"{' + '.join(map(str, given))} = {sum(given)}; leave those of one stage out for the "
            "rest"
        )
    if len(given) < len(stages) - 1:
        raise ValueError("stage: epochs must be given for all stages but one, got fewer")
    if len(given) < len(stages) and left < 1:
        raise ValueError(
            f"stage: epochs must leave 1 or more of train.epochs, {total}, to the stage without "
            f"them, got {sum(given)}"
        )
    return tuple(
        dataclasses.replace(stage, epochs=left) if stage.epochs is None else stage
        for stage in stages
    )
