"""What is written and shown of a fold while it trains: `metrics.jsonl`, TensorBoard, the display.

`metrics.jsonl` has a line of JSON an epoch, the same whether the run was killed or not, but for the
seconds; the file is whole at every moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline import storage
from trainer.loop import Steps
from trainer.metrics import as_json
from trainer.run_folder import METRICS_NAME, fold_folder, tensorboard_folder
from trainer.running.course import Course
from trainer.running.display import Display
from trainer.running.state import State, Sums
from trainer.running.tensorboard import Board, opened_board
from trainer.score_histogram import streaming_auc


@dataclasses.dataclass(frozen=True, kw_only=True)
class Journal:
    """Of one fold."""

    fold: int
    path: str  # of metrics.jsonl
    course: Course
    display: Display
    board: Board

    def show_batch(self, batches: tf.data.Dataset) -> None:
        """The first batch as pictures, augmented as the model sees it."""
        for inputs, _, _ in batches.take(1):
            self.board.pictures(0, inputs["image"])

    def call_ended(self, state: State, steps: Steps, learning_rate: float) -> None:
        """After a call of the loop that led to this state."""
        self.board.scalars(
            "train",
            state.step,
            {
                "loss": float(np.mean(steps.losses)),
                "learning_rate": learning_rate,
                "images_per_second": len(steps.losses)
                * self.course.examples_per_step
                / steps.seconds,
                "waited_share": steps.waited_seconds / steps.seconds,
            },
        )
        self.display.call_ended(state, _auc(state.sums), len(steps.losses))

    def epoch_ended(
        self, state: State, scores: Mapping[str, float] | None, learning_rate: float
    ) -> None:
        """After the last step of an epoch, with the validation's figures if there are any."""
        sums, auc = state.sums, _auc(state.sums)
        figures: dict[str, Any] = {
            "fold": self.fold,
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": sums.mean_loss,
            "learning_rate": learning_rate,
            "images_per_second": sums.steps * self.course.examples_per_step / sums.seconds,
            "seconds": sums.seconds,
            "waited_share": sums.waited_share,
        }
        if self.course.stages > 1:
            figures["stage"] = self.course.stage + 1
        if auc is not None:
            figures |= as_json({"auc": auc})
        if scores is not None:
            figures["validation"] = as_json(scores)
        storage.write_text(self.path, "".join([*_lines(self.path), json.dumps(figures) + "\n"]))
        self.board.scalars("epoch", state.step, {"loss": sums.mean_loss, "auc": auc})
        self.board.scalars("validation", state.step, scores or {})
        self.board.flush()
        self.display.epoch_ended(state, auc, None if scores is None else scores["auc"])


@contextlib.contextmanager
def opened_journal(run: str, fold: int, course: Course, state: State) -> Iterator[Journal]:
    """The journal of a stage that goes on from a state: later lines of `metrics.jsonl` are cut."""
    path = storage.join(fold_folder(run, fold), METRICS_NAME)
    lines = _lines(path)
    if len(lines) > state.epoch:
        storage.write_text(path, "".join(lines[: state.epoch]))
    display = Display(fold=fold, course=course)
    with opened_board(tensorboard_folder(run, fold)) as board:
        yield Journal(fold=fold, path=path, course=course, display=display, board=board)


def _lines(path: str) -> list[str]:
    return storage.read_text(path).splitlines(keepends=True) if storage.exists(path) else []


def _auc(sums: Sums) -> float | None:
    """Of the training examples as they were scored on the way; None without a single score."""
    return None if sums.scores is None else streaming_auc(sums.scores.astype(np.float64))
