"""How far a job is, while it runs: a bar on a terminal, else a line every half minute.

Used by `make_records` and `verify_records`. Work that is done in other processes is counted by what
they have finished (`FinishedShards`), work done in this one as it happens (`Tally`).
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Self

_BAR_CELLS = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What a job has been through so far."""

    items: int
    failed: int = 0  # of these


class Tally:
    """Counts in the process that works; written by one thread, read by any."""

    def __init__(self) -> None:
        self.items = self.failed = 0

    def add(self, failed: int = 0) -> None:
        """One more item was gone through."""
        self.items += 1
        self.failed += failed

    def reset(self) -> None:
        """For the next job in this process."""
        self.items = self.failed = 0

    def count(self) -> Done:
        """What was counted so far."""
        return Done(items=self.items, failed=self.failed)


class FinishedShards:
    """Counts by shard what other processes have finished; each result is read once."""

    def __init__(
        self,
        rows: Sequence[int],
        failed_in: Callable[[int], int | None],
        listed: Callable[[], Collection[int]] | None = None,
    ) -> None:
        """`failed_in` gives the failures of a shard by its number, None while it isn't done.

        `listed` gives those that may be, where to ask for each takes a request; none: all.
        """
        self._rows, self._failed_in, self._listed = rows, failed_in, listed
        self._waiting = set(range(len(rows)))
        self._items = self._failed = 0

    def count(self) -> Done:
        """Looks at the shards that were not done before."""
        listed = self._waiting if self._listed is None else self._listed()
        for shard in sorted(self._waiting.intersection(listed)):
            failed = self._failed_in(shard)
            if failed is not None:
                self._waiting.remove(shard)
                self._items += self._rows[shard]
                self._failed += failed
        return Done(items=self._items, failed=self._failed)


class Progress:
    """`with Progress("make_records", 4000, "images", "failed", count):` writes lines to stderr.

    On a terminal the line is rewritten twice a second; elsewhere a new one comes every 30 s.
    `count` is called from a thread. What it gives at the start was done by an earlier run: it is
    shown, and is no part of the rate.
    """

    def __init__(
        self, job: str, total: int, what: str, fault: str, count: Callable[[], Done]
    ) -> None:
        self._job, self._total, self._what, self._fault = job, total, what, fault
        self._count = count
        self._end: float | None = None  # when all was done; workers take a while to leave
        self._is_terminal = sys.stderr.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._before = self._count().items
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
        elif self._is_terminal:
            print(file=sys.stderr)  # what went wrong stands on a line of its own

    def _run(self) -> None:
        while not self._stop.wait(0.5 if self._is_terminal else 30):
            self._show(end="" if self._is_terminal else "\n")

    def _show(self, end: str) -> None:
        done, now = self._count(), time.monotonic()
        if self._end is None and done.items >= self._total:
            self._end = now
        seconds = (self._end or now) - self._start
        text = progress_text(done, self._total, self._what, self._fault, seconds, self._before)
        line = f"{self._job}: {text}"
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns
            line = f"\r\x1b[K{with_bar(line, done.items, self._total, columns)}"
        print(line, end=end, file=sys.stderr, flush=True)


def progress_text(
    done: Done, total: int, what: str, fault: str, seconds: float, before: int = 0
) -> str:
    """`1,203 of 4,000 images, 312 images/s, 2 failed, 9 s left`.

    `before` items were done when the clock was started.
    """
    new = done.items - before
    rate = new / seconds if seconds > 0 else 0.0
    texts = [f"{done.items:,} of {total:,} {what}", f"{rate:,.0f} {what}/s"]
    if done.failed:
        texts.append(f"{done.failed:,} {fault}")
    if done.items >= total:
        texts.append(duration(seconds))
    elif new > 0:
        texts.append(f"{duration((total - done.items) / rate)} left")
    return ", ".join(texts)


def with_bar(line: str, done: int, total: int, columns: int) -> str:
    """The line behind a bar, or cut to `columns`: one that wraps could not be rewritten."""
    if len(line) + _BAR_CELLS + 2 >= columns:
        return line[: columns - 1]
    eighths = 8 * _BAR_CELLS * done // total if total else 8 * _BAR_CELLS
    whole, rest = divmod(eighths, 8)
    bar = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return f"{bar.ljust(_BAR_CELLS, '░')}  {line}"


def duration(seconds: float) -> str:
    """`9 s`, `4 min 05 s`, `2 h 03 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
