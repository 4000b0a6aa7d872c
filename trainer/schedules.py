"""Learning rate over time: one function a kind, from progress to a fraction of the peak.

A schedule is evaluated once, on the host, into one rate a step; `trainer.optimizers` gathers from
that table. So a new schedule is a few lines of numpy that can be plotted and tested without
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.settings import nearest

Steps = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """`[schedule]`: how the learning rate changes, as fractions of `optimizer.learning_rate`."""

    kind: str = "warmup_cosine"
    warmup_epochs: float = 1.0
    final_fraction: float = 0.0  # of the peak, reached at the last step

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ValueError(f"unknown kind {self.kind!r}; {nearest(self.kind, SCHEDULES)}")
        if not 0 <= self.warmup_epochs < math.inf:
            raise ValueError(
                f"warmup_epochs must be 0 or more and finite, got {self.warmup_epochs}"
            )
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], got {self.final_fraction}")


def learning_rates(
    config: ScheduleConfig, peak: float, epochs: int, steps_per_epoch: int
) -> npt.NDArray[np.float32]:
    """float32 [epochs * steps_per_epoch]: the rate of each step, highest `peak`."""
    total_steps = epochs * steps_per_epoch
    warmup_steps = min(config.warmup_epochs * steps_per_epoch, total_steps)
    steps = np.arange(total_steps, dtype=np.float64)
    fractions = SCHEDULES[config.kind](steps, warmup_steps, config.final_fraction)
    return (peak * fractions).astype(np.float32)


def constant(steps: Steps, warmup_steps: float, final_fraction: float) -> Steps:
    """The peak at every step; the other settings are not used."""
    return np.ones_like(steps)


def warmup_cosine(steps: Steps, warmup_steps: float, final_fraction: float) -> Steps:
    """Linear from 0 to 1 during the warm-up, then half a cosine to `final_fraction`.

    Loshchilov and Hutter 2017 (arXiv 1608.03983, eq. 5) without restarts. The first step is not at
    0, which would be a step wasted: step s warms up with (s + 1) / warmup_steps.
    """
    rising = (steps + 1) / max(warmup_steps, 1)
    decay_steps = max(len(steps) - 1 - warmup_steps, 1)
    done = np.clip((steps - warmup_steps) / decay_steps, 0, 1)
    falling = final_fraction + (1 - final_fraction) * (1 + np.cos(np.pi * done)) / 2
    return np.where(steps < warmup_steps, np.minimum(rising, 1.0), falling)


SCHEDULES: dict[str, Callable[[Steps, float, float], Steps]] = {
    "constant": constant,
    "warmup_cosine": warmup_cosine,
}
