"""Learning rate over time: one function a kind, from steps to fractions of the peak.

A schedule is evaluated once, on the host, into one rate an applied step (`learning_rates`);
`trainer.optimizers` gathers from that table. So a new schedule is a few lines of numpy that can be
plotted and tested without TensorFlow. What cannot be known beforehand, `on_plateau`, is a fraction
on top: `trainer.fold_run` gives each score to a `Plateau` and assigns its answer to the optimizer's
`rate_fraction`; the rate of a step is table[step] * fraction.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.kinds import Rule, check_kind, own_settings

Steps = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """`[schedule]`: how the learning rate changes, as fractions of `optimizer.learning_rate`.

    `SCHEDULES` says which kind takes what, and the defaults of what is left out.
    """

    kind: str = "warmup_cosine"
    warmup_epochs: float | None = None  # linear from 0 to the peak
    final_fraction: float | None = None  # where the cosine ends
    by_epoch: bool | None = None  # the rate changes between epochs only
    ramp_epochs: float | None = None  # from start_fraction to the peak
    hold_epochs: float | None = None  # at the peak
    start_fraction: float | None = None
    min_fraction: float | None = None  # what the decay tends to, or stops at
    factor: float | None = None  # by which the rate falls each time
    every_epochs: float | None = None
    milestones: tuple[float, ...] | None = None  # in epochs
    patience_epochs: int | None = None  # without a better score before the rate falls

    def __post_init__(self) -> None:
        check_kind(self, {name: kind.settings for name, kind in SCHEDULES.items()}, _RULES)
        if self.kind == "step" and self.milestones is None:
            raise ValueError("milestones must be given for kind 'step', such as [5, 8], got none")

    def own_settings(self) -> dict[str, Any]:
        """The settings that the kind takes, defaults filled in."""
        return own_settings(self, SCHEDULES[self.kind].settings)

    def resolved(self) -> ScheduleConfig:
        """The same schedule, its defaults written out."""
        return dataclasses.replace(self, **self.own_settings())


def learning_rates(
    config: ScheduleConfig, peak: float, epochs: int, steps_per_epoch: int
) -> npt.NDArray[np.float32]:
    """float32 [epochs * steps_per_epoch]: the rate of each applied step, highest `peak`."""
    steps = np.arange(epochs * steps_per_epoch, dtype=np.float64)
    formula = SCHEDULES[config.kind].formula
    fractions = formula(steps, steps_per_epoch, **config.own_settings())
    return (peak * fractions).astype(np.float32)


def constant(steps: Steps, steps_per_epoch: int) -> Steps:
    """The peak at every step."""
    return np.ones_like(steps)


def warmup_cosine(
    steps: Steps, steps_per_epoch: int, *, warmup_epochs: float, final_fraction: float
) -> Steps:
    """Linear from 0 to 1 during the warm-up, then half a cosine, at `final_fraction` in the end.

    Loshchilov and Hutter 2017 (arXiv 1608.03983, eq. 5) without restarts.
    """
    warmup_steps = min(warmup_epochs * steps_per_epoch, len(steps))
    decay_steps = max(len(steps) - 1 - warmup_steps, 1)
    done = np.clip((steps - warmup_steps) / decay_steps, 0, 1)
    return _after_warmup(_half_cosine(done, final_fraction), warmup_steps)


def cosine(steps: Steps, steps_per_epoch: int, *, final_fraction: float, by_epoch: bool) -> Steps:
    """(1 + cos(pi t / T)) / 2 * (1 - final_fraction) + final_fraction at t = 0 ... T - 1."""
    progress = _epochs(steps, steps_per_epoch, by_epoch)
    return _half_cosine(progress * steps_per_epoch / len(steps), final_fraction)


def ramp_hold_decay(
    steps: Steps,
    steps_per_epoch: int,
    *,
    ramp_epochs: float,
    hold_epochs: float,
    factor: float,
    start_fraction: float,
    min_fraction: float,
    by_epoch: bool,
) -> Steps:
    """Linear up to the peak, held there, then exponential towards `min_fraction`, epoch by epoch.

    As Kaggle's TPU notebooks and the winners of ISIC 2020 schedule it; they by epoch.
    """
    epochs = _epochs(steps, steps_per_epoch, by_epoch)
    rising = start_fraction + (1 - start_fraction) * epochs / max(ramp_epochs, 1e-9)
    decayed_epochs = np.maximum(epochs - ramp_epochs - hold_epochs, 0)
    falling = min_fraction + (1 - min_fraction) * factor**decayed_epochs
    return np.where(epochs < ramp_epochs, rising, falling)


def exponential_staircase(
    steps: Steps, steps_per_epoch: int, *, factor: float, every_epochs: float, warmup_epochs: float
) -> Steps:
    """Times `factor` every so many epochs, counted from the first step: EfficientNet's own.

    Tan and Le 2019 (arXiv 1905.11946, section 5.2): 0.97 every 2.4 epochs.
    """
    falls = np.floor(steps / (every_epochs * steps_per_epoch))
    return _after_warmup(factor**falls, warmup_epochs * steps_per_epoch)


def step(
    steps: Steps,
    steps_per_epoch: int,
    *,
    milestones: tuple[float, ...],
    factor: float,
    warmup_epochs: float,
) -> Steps:
    """Times `factor` at each milestone (an epoch)."""
    passed = steps[:, None] >= np.array(milestones, np.float64) * steps_per_epoch
    return _after_warmup(factor ** passed.sum(axis=1), warmup_epochs * steps_per_epoch)


def on_plateau(
    steps: Steps, steps_per_epoch: int, *, warmup_epochs: float, **of_plateau: float
) -> Steps:
    """The peak after the warm-up; `Plateau` has the falls."""
    return _after_warmup(np.ones_like(steps), warmup_epochs * steps_per_epoch)


class Plateau:
    """The falls of `on_plateau`: `factor` at each stretch of epochs without a better score.

    `state()` and `restore` carry it over a restart as plain numbers.
    """

    def __init__(self, config: ScheduleConfig, epochs_per_score: int = 1) -> None:
        settings = config.own_settings()
        self._factor, self._min_fraction = settings["factor"], settings["min_fraction"]
        self._patience_epochs = settings["patience_epochs"]
        self._epochs_per_score = epochs_per_score
        self._best: float | None = None
        self._waited_epochs = 0
        self.fraction = 1.0

    def update(self, score: float) -> float:
        """The fraction of the table's rates from now on; a higher score is a better one.

        A score that is NaN is no better one.
        """
        if not math.isnan(score) and (self._best is None or score > self._best):
            self._best, self._waited_epochs = score, 0
            return self.fraction
        self._waited_epochs += self._epochs_per_score
        if self._waited_epochs >= self._patience_epochs:
            self.fraction = max(self.fraction * self._factor, self._min_fraction)
            self._waited_epochs = 0
        return self.fraction

    def state(self) -> dict[str, float | None]:
        """What `restore` needs, for JSON; `best` is null before the first score."""
        return {
            "best": self._best,
            "waited_epochs": self._waited_epochs,
            "fraction": self.fraction,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state()`."""
        self._best = state["best"]
        self._waited_epochs = state["waited_epochs"]
        self.fraction = state["fraction"]


def _half_cosine(done: Steps, final_fraction: float) -> Steps:
    return final_fraction + (1 - final_fraction) * (1 + np.cos(np.pi * done)) / 2


def _after_warmup(fractions: Steps, warmup_steps: float) -> Steps:
    """Linear from 0 to 1 in place of the first steps.

    The first step is not at 0, which would be a step wasted: step s is at (s + 1) / warmup_steps.
    """
    steps = np.arange(len(fractions))
    rising = np.minimum((steps + 1) / max(warmup_steps, 1), 1.0)
    return np.where(steps < warmup_steps, rising, fractions)


def _epochs(steps: Steps, steps_per_epoch: int, by_epoch: bool) -> Steps:
    """How many epochs are done at the start of each step; whole ones only with `by_epoch`."""
    epochs = steps / steps_per_epoch
    return np.floor(epochs) if by_epoch else epochs


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleKind:
    """A line of `SCHEDULES`: the formula, its settings and their defaults."""

    formula: Callable[..., Steps]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


SCHEDULES = {
    "constant": ScheduleKind(formula=constant),
    "warmup_cosine": ScheduleKind(
        formula=warmup_cosine, settings={"warmup_epochs": 1.0, "final_fraction": 0.0}
    ),
    "cosine": ScheduleKind(formula=cosine, settings={"final_fraction": 0.05, "by_epoch": False}),
    "ramp_hold_decay": ScheduleKind(
        formula=ramp_hold_decay,
        settings={
            "ramp_epochs": 5.0,
            "hold_epochs": 0.0,
            "factor": 0.8,
            "start_fraction": 0.03,
            "min_fraction": 0.01,
            "by_epoch": False,
        },
    ),
    "exponential_staircase": ScheduleKind(
        formula=exponential_staircase,
        settings={"factor": 0.97, "every_epochs": 2.4, "warmup_epochs": 0.0},
    ),
    "step": ScheduleKind(
        formula=step, settings={"milestones": None, "factor": 0.1, "warmup_epochs": 0.0}
    ),
    "on_plateau": ScheduleKind(
        formula=on_plateau,
        settings={
            "factor": 0.5,
            "patience_epochs": 3,
            "min_fraction": 0.01,
            "warmup_epochs": 0.0,
        },
    ),
}

_NOT_NEGATIVE: Rule = ("0 or more and finite", lambda epochs: 0 <= epochs < math.inf)
_FRACTION: Rule = ("in [0, 1]", lambda fraction: 0 <= fraction <= 1)
_RULES: dict[str, Rule] = {
    "warmup_epochs": _NOT_NEGATIVE,
    "final_fraction": _FRACTION,
    "ramp_epochs": _NOT_NEGATIVE,
    "hold_epochs": _NOT_NEGATIVE,
    "start_fraction": _FRACTION,
    "min_fraction": _FRACTION,
    "factor": ("in (0, 1)", lambda factor: 0 < factor < 1),
    "every_epochs": ("above 0 and finite", lambda epochs: 0 < epochs < math.inf),
    "milestones": (
        "epochs above 0, each later than the one before",
        lambda epochs: all(a < b < math.inf for a, b in itertools.pairwise((0.0, *epochs))),
    ),
    "patience_epochs": ("1 or more", lambda epochs: epochs >= 1),
}
