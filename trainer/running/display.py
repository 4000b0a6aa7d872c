"""What a person sees of a fold in training: a bar an epoch on a terminal, else lines.

`trainer.running.journal` tells it after every call of the compiled loop, and at an epoch's end. A
log file gets a line an epoch, and one every 30 s while an epoch takes longer.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from trainer.metrics import as_text
from trainer.running.course import Course
from trainer.running.state import State

LOG_EVERY_S = 30.0
DRAW_EVERY_S = 0.1  # the eye wants no more, and a remote terminal is slow
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Display:
    """The progress of one fold; `auc` is None where the label has no single score."""

    def __init__(
        self,
        *,
        fold: int,
        course: Course,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fold, self._course = fold, course
        self._out = sys.stdout if out is None else out
        self._clock, self._is_terminal = clock, self._out.isatty()
        self._start_s = self._shown_s = clock()
        self._steps = 0  # in this process, for the time left

    def call_ended(self, state: State, auc: float | None, steps: int) -> None:
        """After a call of `steps` steps that led to this state."""
        self._steps += steps
        now_s = self._clock()
        if now_s - self._shown_s < (DRAW_EVERY_S if self._is_terminal else LOG_EVERY_S):
            return
        self._shown_s = now_s
        done = state.sums.steps / self._course.steps_per_epoch
        steps_left = self._course.epochs * self._course.steps_per_epoch - state.step
        seconds_left = (now_s - self._start_s) / self._steps * steps_left
        facts = [*self._facts(state, auc), f"{duration(seconds_left)} left"]
        if self._is_terminal:
            self._draw(" ".join(facts), done)
        else:
            print("  ".join([*facts, f"{done:.0%} of the epoch"]), file=self._out, flush=True)

    def epoch_ended(self, state: State, auc: float | None, validation_auc: float | None) -> None:
        """The line that stays."""
        facts = [*self._facts(state, auc), f"{state.sums.seconds:.1f} s"]
        if validation_auc is not None:
            facts.append(f"validation AUC {as_text(validation_auc)}")
        if self._is_terminal:
            self._out.write("\r\x1b[K")
        print("  ".join(facts), file=self._out, flush=True)
        self._shown_s = self._clock()

    def _facts(self, state: State, auc: float | None) -> list[str]:
        sums, width = state.sums, len(str(self._course.epochs))
        stages = self._course.stages
        images_per_second = sums.steps * self._course.examples_per_step / sums.seconds
        return [
            f"fold {self._fold}",
            *([] if stages == 1 else [f"stage {self._course.stage + 1}/{stages}"]),
            f"epoch {state.epoch + 1:>{width}}/{self._course.epochs}",
            f"loss {sums.mean_loss:.4f}",
            *([] if auc is None else [f"AUC {as_text(auc)}"]),
            f"{images_per_second:,.0f} images/s",
            f"wait {sums.waited_share:.0%}",  # for input
        ]

    def _draw(self, facts: str, done: float) -> None:
        """One line, drawn over the last one; no wider than the terminal, where it would wrap."""
        columns = shutil.get_terminal_size().columns - 1
        width = min(30, columns - len(facts) - 1)
        bar = f" {bar_of(done, width)}" if width >= 3 else ""
        self._out.write(f"\r\x1b[K{(facts + bar)[:columns]}")
        self._out.flush()


def bar_of(done: float, width: int) -> str:
    """A bar of `width` characters, filled in eighths; `done` in [0, 1]."""
    eighths = round(done * width * 8)
    full, part = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[part] if part else "")
    return bar.ljust(width, "·")


def duration(seconds: float) -> str:
    """`0:07`, `12:34` or `1:02:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
