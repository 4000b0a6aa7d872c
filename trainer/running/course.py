"""The course of a fold's training: how many steps, of how many examples, at which rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from trainer.config import Config
from trainer.schedules import learning_rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """A step is one of the optimizer's: of `batches_per_step` batches over all replicas."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    batches_per_step: int
    rates: npt.NDArray[np.float32]  # by step, before a plateau's fraction

    @property
    def examples_per_step(self) -> int:
        """Of all its batches."""
        return self.batch_size * self.batches_per_step


def course_of(config: Config, batches_per_epoch: int) -> Course:
    """What a resolved recipe makes of a stream of so many batches an epoch."""
    train, optimizer = config.train, config.optimizer
    steps_per_epoch = batches_per_epoch // optimizer.accumulate_steps
    rates = learning_rates(config.schedule, optimizer.learning_rate, train.epochs, steps_per_epoch)
    return Course(
        epochs=train.epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=train.batch_size,
        batches_per_step=optimizer.accumulate_steps,
        rates=rates,
    )
