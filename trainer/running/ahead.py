"""Iterators over the epochs of a stream, the next of which begins before it is needed.

An epoch begins with building its graph and filling its shuffle buffer, 0.1–0.3 s in which a device
would wait (benchmarks/step.py). `trainer.running.epochs` lets that happen while the last steps of
the epoch before are taken, and while the validation part is predicted.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

from pipeline.stream.batches import Position, TrainingStream
from trainer.loop import Loop


class Ahead:
    """One iterator at most is kept; one that is not asked for is dropped."""

    def __init__(self, loop: Loop, stream: TrainingStream) -> None:
        self._loop, self._stream = loop, stream
        # In a thread: the graph is built while the device works.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._begun: tuple[Position, concurrent.futures.Future[Any]] | None = None

    def begin(self, position: Position) -> None:
        """Starts making the batches from `position` on; again for the same one does nothing."""
        if self._begun is None or self._begun[0] != position:
            self._begun = position, self._thread.submit(self._open, position)

    def take(self, position: Position) -> Any:
        """An iterator over the batches from `position` on, for `Loop.train`."""
        begun, self._begun = self._begun, None
        return begun[1].result() if begun and begun[0] == position else self._open(position)

    def _open(self, position: Position) -> Any:
        return self._loop.iterate(lambda context: self._stream.epoch(position, context))
