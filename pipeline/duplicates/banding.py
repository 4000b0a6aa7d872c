"""Hashes that are close, without comparing each with each.

A hash is cut into 4 bands of 16 bits. Two hashes that differ in at most N bits agree in one band
but for N // 4 bits (pigeonhole), so looking up every band with up to that many bits flipped finds
them all. A lookup is two entries of a table of 65,536; its hits are compared whole. (Multi-index
hashing: Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012.)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.duplicates.hashing import BANDS, Hashes

MAX_DISTANCE = 11  # 2 flips in a band are 137 lookups; 3, for 12 bits, would be 697
_BAND_BITS = 16
_BUCKETS = 1 << _BAND_BITS
_MOST_HITS = 1 << 20  # compared at once: what fits a core's cache, and bounds memory

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Close:
    """Places in two arrays of hashes, and the bits in which those hashes differ; all [K]."""

    query: Ints
    entry: Ints
    distance: npt.NDArray[np.uint8]


class HashIndex:
    """An array of hashes that can be asked for those near another; safe from several threads."""

    def __init__(self, hashes: Hashes) -> None:
        """uint64 [M]; 12 bytes an entry and band are kept."""
        self._orders, self._hashes, self._starts = [], [], []
        for band in range(BANDS):
            keys = _band(hashes, band)
            order = np.argsort(keys, kind="stable").astype(np.int32)
            self._orders.append(order)
            self._hashes.append(hashes[order])
            self._starts.append(np.searchsorted(keys[order], np.arange(_BUCKETS + 1)))

    def near(self, queries: Hashes, distance: int) -> Iterator[Close]:
        """uint64 [Q] → all pairs of a query and an entry that differ in at most `distance` bits.

        A pair that several bands find comes several times.
        """
        for band, flip in itertools.product(range(BANDS), _flips(distance // BANDS)):
            starts = self._starts[band]
            keys = (_band(queries, band) ^ flip).astype(np.int64)
            first = starts[keys]
            counts = starts[keys + 1] - first
            for some in _slices(counts):
                yield from self._compare(band, queries, some, first, counts, distance)

    def _compare(
        self, band: int, queries: Hashes, some: slice, first: Ints, counts: Ints, distance: int
    ) -> Iterator[Close]:
        counts = counts[some]
        # Hit k of a query is at first + k: its place among all hits, moved by what came before.
        moved = first[some] - (np.cumsum(counts) - counts)
        places = np.arange(counts.sum()) + np.repeat(moved, counts)
        differing = self._hashes[band][places]
        differing ^= np.repeat(queries[some], counts)
        bits = np.bitwise_count(differing)
        close = np.flatnonzero(bits <= distance)
        if close.size:
            of_query = np.searchsorted(np.cumsum(counts), close, side="right")
            yield Close(
                query=of_query + some.start,
                entry=self._orders[band][places[close]].astype(np.int64),
                distance=bits[close],
            )


def _band(hashes: Hashes, band: int) -> npt.NDArray[np.uint16]:
    return (hashes >> np.uint64(band * _BAND_BITS)).astype(np.uint16)


def _flips(most: int) -> list[np.uint16]:
    """The masks of 16 bits with at most `most` ones, the empty one first."""
    return [
        np.uint16(sum(1 << bit for bit in bits))
        for ones in range(most + 1)
        for bits in itertools.combinations(range(_BAND_BITS), ones)
    ]


def _slices(counts: Ints) -> Iterator[slice]:
    """Neighbouring queries with at most `_MOST_HITS` hits together, or one that has more alone."""
    total = np.cumsum(counts)
    start = done = 0
    while start < len(counts):
        end = max(int(np.searchsorted(total, done + _MOST_HITS, side="right")), start + 1)
        yield slice(start, end)
        start, done = end, int(total[end - 1])
