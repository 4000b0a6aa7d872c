"""The epochs of a stage, from any state to its end; `trainer.fold_run` makes what it works with.

One turn of the inner loop is one compiled call, looked at and perhaps saved. Between two calls the
`State` and the checkpoint's objects are all there is, so a run that was killed goes on as if
nothing had been.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.predictions import Predictions
from pipeline.stream.batches import Position, TrainingStream
from trainer.config import TrainConfig
from trainer.loop import Loop
from trainer.metrics import evaluate
from trainer.run_folder import NAN_BATCH_NAME
from trainer.running.ahead import Ahead
from trainer.running.checkpoints import Checkpoints
from trainer.running.course import Course
from trainer.running.diverged import are_finite, diverged
from trainer.running.journal import Journal
from trainer.running.state import Best, State
from trainer.running.stopping import Stopping
from trainer.schedules import Plateau


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epochs:
    """What a stage of the training of one fold works with."""

    fold: int
    folder: str  # RUN/foldK
    train: TrainConfig
    course: Course
    stream: TrainingStream
    ahead: Ahead  # of the stream
    loop: Loop
    patience_epochs: int | None  # without a better score, before the stage ends; None: no such end
    plateau: Plateau | None
    predict: Callable[[], Predictions]  # of the validation parts, with the weights of the moment
    checkpoints: Checkpoints
    journal: Journal
    stopping: Stopping
    rows: pd.DataFrame  # `read_rows` of the records

    def run(self, state: State) -> tuple[State, Predictions | None]:
        """To the end of the stage; with the predictions of its weights if it came to that.

        Raises:
          TrainingError: the loss or a weight is no longer finite.
          Stopped: a signal asked to leave; the state is saved.
        """
        predictions = None
        while state.epoch < self.course.end_epoch and not self._has_waited_enough(state):
            state = self._train_epoch(state)
            predictions = self.predict() if self._is_evaluated(state.epoch + 1) else None
            scores = None if predictions is None else evaluate(predictions)
            # Before the state: whoever is killed in between cuts the line and writes it again.
            self.journal.epoch_ended(state, scores, self._rate(state.step - 1))
            state = self._closed(state, scores)
            self.checkpoints.amend(state)
        return state, predictions

    def _train_epoch(self, state: State) -> State:
        """The steps of the epoch that are left, saved every so many and at the end."""
        iterator = self.ahead.take(self._position(state))
        while state.sums.steps < self.course.steps_per_epoch:
            if self._is_near_end(state) and state.epoch + 1 < self.course.end_epoch:
                self.ahead.begin(Position(epoch=state.epoch + 1))
            with self.stopping.shielded():
                before = state
                steps = self.loop.train(iterator, before.step, self._steps_to_take(before))
                [broken] = np.nonzero(~np.isfinite(steps.losses))
                if len(broken):
                    self._refuse(before, int(broken[0]), f"a loss of {steps.losses[broken[0]]}")
                state = before.after(steps)
                if self._is_saved(state) or self.stopping.is_asked:
                    # The last step may break the weights; the loss before it knew nothing of that.
                    if not are_finite(self.loop.model):
                        self._refuse(before, len(steps.losses) - 1, "weights of NaN or infinity")
                    self.checkpoints.save(state, self.loop.tracked())
            self.journal.call_ended(state, steps, self._rate(state.step - 1))
        return state

    def _steps_to_take(self, state: State) -> int:
        """In one call: not past the end of the epoch, nor past the next checkpoint."""
        limits = [self.train.steps_per_call, self.course.steps_per_epoch - state.sums.steps]
        if every := self.train.checkpoint_every:
            limits.append(every - state.step % every)
        return min(limits)

    def _is_near_end(self, state: State) -> bool:
        """Whether the next epoch should begin: the last call alone may be too short for it."""
        left = self.course.steps_per_epoch - state.sums.steps
        return left <= 2 * self.train.steps_per_call

    def _is_saved(self, state: State) -> bool:
        every = self.train.checkpoint_every
        is_due = every is not None and state.step % every == 0
        return is_due or state.sums.steps == self.course.steps_per_epoch

    def _is_evaluated(self, epoch: int) -> bool:
        every = self.train.evaluate_every
        return epoch == self.course.epochs or (every is not None and epoch % every == 0)

    def _closed(self, state: State, scores: dict[str, float] | None) -> State:
        """After what an evaluation may choose: best weights, the next fraction, the stage's end."""
        best, stage = state.best, state.stage
        score = float("nan") if scores is None else scores[self.train.metric]
        if self.train.keep == "best" and score > (best.score if best else -np.inf):
            best = Best(score=score, step=state.step)
        if self.plateau is not None and scores is not None:
            self.loop.optimizer.rate_fraction.assign(self.plateau.update(score))
        if scores is not None:
            stage = stage.scored(score, self.train.evaluate_every or 1)
        return state.closed(best, self.plateau.state() if self.plateau else None, stage)

    def _has_waited_enough(self, state: State) -> bool:
        patience_epochs = self.patience_epochs
        return patience_epochs is not None and state.stage.waited_epochs >= patience_epochs

    def _refuse(self, before: State, place: int, what: str) -> None:
        """Raises TrainingError of the step `place` steps after a state."""
        at = self._position(before)
        at = dataclasses.replace(at, examples=at.examples + place * self.course.examples_per_step)
        step = before.step + place
        raise diverged(
            what,
            where=f"fold {self.fold}, epoch {at.epoch + 1}, step {step + 1}",
            learning_rate=self._rate(step),
            batches=self.stream.epoch(at).take(self.course.batches_per_step),
            rows=self.rows,
            path=storage.join(self.folder, NAN_BATCH_NAME),
        )

    def _rate(self, step: int) -> float:
        """The learning rate of a step, the first of which is 0."""
        return self.course.rate(step) * (self.plateau.fraction if self.plateau else 1.0)

    def _position(self, state: State) -> Position:
        return Position(
            epoch=state.epoch, examples=state.sums.steps * self.course.examples_per_step
        )
