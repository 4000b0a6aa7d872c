"""Where the training of a fold stands, as plain numbers: the half of a checkpoint that is JSON.

`trainer.running.epochs` carries one from call to call; `trainer.running.checkpoints` writes it
beside the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.loop import Steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """Over the steps of an epoch so far; a resumed epoch adds to them and ends with the same."""

    steps: int = 0
    loss: float = 0.0  # of each step's mean over its batch
    seconds: float = 0.0
    waited_seconds: float = 0.0  # of them, for input
    scores: npt.NDArray[np.int64] | None = None  # [2, BINS]; see `trainer.score_histogram`

    @property
    def mean_loss(self) -> float:
        """NaN before the first step."""
        return self.loss / self.steps if self.steps else float("nan")

    @property
    def waited_share(self) -> float:
        """The part of the time that went into waiting for input, in [0, 1]."""
        return self.waited_seconds / self.seconds if self.seconds else 0.0

    def plus(self, steps: Steps) -> Sums:
        """With the steps of one more call."""
        scores = steps.scores
        return Sums(
            steps=self.steps + len(steps.losses),
            # One by one, so that the sum does not depend on how the steps were cut into calls.
            loss=sum(map(float, steps.losses), start=self.loss),
            seconds=self.seconds + steps.seconds,
            waited_seconds=self.waited_seconds + steps.waited_seconds,
            scores=scores if self.scores is None or scores is None else self.scores + scores,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best score that an evaluation found, and the step of the weights that had it."""

    score: float
    step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Which stage is trained, and how long already."""

    number: int = 0
    first_epoch: int = 0
    best_score: float | None = None  # of its evaluations
    waited_epochs: int = 0  # since then

    def scored(self, score: float, epochs: int) -> Stage:
        """After an evaluation that came `epochs` after the last; NaN is no better than any."""
        if score > (-np.inf if self.best_score is None else self.best_score):
            return dataclasses.replace(self, best_score=score, waited_epochs=0)
        return dataclasses.replace(self, waited_epochs=self.waited_epochs + epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Between two calls of the compiled loop."""

    # Held and streamed examples come in different orders: whatever its memory, a machine that goes
    # on takes the order that the run began with.
    is_held: bool
    step: int = 0
    epoch: int = 0  # so many are over: trained, scored, and a line in metrics.jsonl
    sums: Sums = Sums()  # of the epoch under way
    best: Best | None = None
    plateau: dict[str, float | None] | None = None  # of the schedule, where it has one
    stage: Stage = Stage()

    def after(self, steps: Steps) -> State:
        """When one more call of the loop has ended."""
        return dataclasses.replace(
            self, step=self.step + len(steps.losses), sums=self.sums.plus(steps)
        )

    def closed(
        self, best: Best | None, plateau: dict[str, float | None] | None, stage: Stage
    ) -> State:
        """The epoch is over, and this is what its end found."""
        return dataclasses.replace(
            self, epoch=self.epoch + 1, sums=Sums(), best=best, plateau=plateau, stage=stage
        )

    def in_next_stage(self) -> State:
        """At the start of the next stage, which knows nothing of this one's scores."""
        stage = Stage(number=self.stage.number + 1, first_epoch=self.epoch)
        return dataclasses.replace(self, stage=stage, plateau=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a float comes back as the very same."""
        tables = dataclasses.asdict(self)
        if self.sums.scores is not None:
            tables["sums"]["scores"] = self.sums.scores.tolist()
        return tables

    @classmethod
    def from_json(cls, tables: Mapping[str, Any]) -> State:
        """The inverse of `to_json`."""
        sums = dict(tables["sums"])
        if sums["scores"] is not None:
            sums["scores"] = np.array(sums["scores"], np.int64)
        best, stage = tables["best"], Stage(**tables["stage"])
        values = {"sums": Sums(**sums), "best": best and Best(**best), "stage": stage}
        return cls(**{**tables, **values})
