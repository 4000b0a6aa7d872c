"""A line every few seconds while a job runs: how far, how fast, how long still."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Progress:
    """`with Progress("make_records", 4000, "images", count):` writes lines to stderr.

    On a terminal the line is rewritten twice a second; elsewhere a new one comes every 30 s.
    `count` is called from a thread and tells how many are done.
    """

    def __init__(self, job: str, total: int, what: str, count: Callable[[], int]) -> None:
        self._job, self._total, self._what, self._count = job, total, what, count
        self._is_terminal = sys.stderr.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._show(end="\n")

    def _run(self) -> None:
        while not self._stop.wait(0.5 if self._is_terminal else 30):
            self._show(end="" if self._is_terminal else "\n")

    def _show(self, end: str) -> None:
        done, seconds = self._count(), time.monotonic() - self._start
        text = f"{self._job}: {progress_text(done, self._total, self._what, seconds)}"
        print(
            f"\r\x1b[K{text}" if self._is_terminal else text, end=end, file=sys.stderr, flush=True
        )


def progress_text(done: int, total: int, what: str, seconds: float) -> str:
    """`1,203 of 4,000 images, 312 images/s, 9 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    text = f"{done:,} of {total:,} {what}, {rate:,.0f} {what}/s"
    if 0 < done < total:
        return f"{text}, {duration((total - done) / rate)} left"
    return f"{text}, {duration(seconds)}" if done == total else text


def duration(seconds: float) -> str:
    """`9 s`, `4 min 05 s`, `2 h 03 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
