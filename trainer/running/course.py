"""The course of a stage of a fold's training: how many steps, of how many examples, which rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from trainer.config import Config
from trainer.running.state import Stage
from trainer.schedules import learning_rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """A step is one of the optimizer's: of `batches_per_step` batches over all replicas."""

    epochs: int  # until the end of the last stage
    steps_per_epoch: int
    batch_size: int
    batches_per_step: int
    rates: npt.NDArray[np.float32]  # by step of this stage, before a plateau's fraction
    first_epoch: int = 0  # of this stage
    stage: int = 0
    stages: int = 1

    @property
    def examples_per_step(self) -> int:
        """Of all its batches."""
        return self.batch_size * self.batches_per_step

    @property
    def end_epoch(self) -> int:
        """The epoch that this stage does not reach."""
        return self.first_epoch + len(self.rates) // self.steps_per_epoch

    @property
    def first_step(self) -> int:
        """Of this stage."""
        return self.first_epoch * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from the first of all stages."""
        return float(self.rates[step - self.first_step])


def course_of(config: Config, batches_per_epoch: int, stage: Stage) -> Course:
    """What a resolved recipe makes of a stream of so many batches an epoch, in a stage."""
    recipe, to_come = config.in_stage(stage.number), config.stages[stage.number :]
    train, optimizer = recipe.train, recipe.optimizer
    steps_per_epoch = batches_per_epoch // optimizer.accumulate_steps
    return Course(
        epochs=stage.first_epoch + sum(stage.epochs or 0 for stage in to_come),
        steps_per_epoch=steps_per_epoch,
        batch_size=train.batch_size,
        batches_per_step=optimizer.accumulate_steps,
        rates=learning_rates(
            recipe.schedule, optimizer.learning_rate, train.epochs, steps_per_epoch
        ),
        first_epoch=stage.first_epoch,
        stage=stage.number,
        stages=len(config.stages),
    )
