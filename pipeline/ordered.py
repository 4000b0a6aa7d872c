"""Work by many threads, results in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

ROWS_AHEAD = 32  # done and not yet taken: hides a slow item, and bounds memory

A = TypeVar("A")
B = TypeVar("B")


def map_ordered(pool: Executor, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`pool.map` that holds at most `ROWS_AHEAD` results, however slow their taker is."""
    ahead: collections.deque[Future[B]] = collections.deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= ROWS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
