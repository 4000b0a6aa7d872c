"""Banding finds what comparing each with each finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates import banding
from pipeline.duplicates.banding import MAX_DISTANCE, HashIndex


def by_comparing_all(queries: np.ndarray, hashes: np.ndarray, distance: int) -> set:
    """(query, entry, bits) of all that are near, bit by bit."""
    bits = [(queries[:, None] ^ hashes) >> np.uint64(bit) & np.uint64(1) for bit in range(64)]
    counts = np.sum(bits, axis=0)
    return {(q, e, counts[q, e]) for q, e in np.argwhere(counts <= distance).tolist()}


def by_banding(queries: np.ndarray, hashes: np.ndarray, distance: int) -> set:
    return {
        found
        for close in HashIndex(hashes).near(queries, distance)
        for found in zip(
            *(part.tolist() for part in (close.query, close.entry, close.distance)), strict=True
        )
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), distance=st.integers(0, MAX_DISTANCE))
def test_every_pair_within_the_distance_is_found_and_no_other(seed, distance):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    flips = [
        sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False)) for bits in range(14)
    ]
    queries = np.concatenate([hashes[:1] ^ np.array(flips, np.uint64), hashes[5:15]])
    assert by_banding(queries, hashes, distance) == by_comparing_all(queries, hashes, distance)


def test_errors_spread_evenly_over_the_bands_are_found():
    hashes = np.zeros(1, np.uint64)
    spread = (
        sum(0b11 << 16 * band for band in range(3)) | 1 << 48
    )  # 2, 2, 2 and 1: no band is clean
    assert by_banding(np.array([spread], np.uint64), hashes, 7) == {(0, 0, 7)}


def test_a_bucket_larger_than_a_slice_is_compared_in_full(monkeypatch):
    monkeypatch.setattr(banding, "_MOST_HITS", 10)
    hashes = np.full(50, 7, np.uint64)
    assert len(by_banding(hashes[:3], hashes, 0)) == 150


@pytest.mark.parametrize("queries", [0, 3])
def test_an_empty_index_or_no_query_finds_nothing(queries):
    hashes = np.arange(queries, dtype=np.uint64)
    assert by_banding(hashes, np.empty(0, np.uint64), 7) == set()
    assert by_banding(np.empty(0, np.uint64), hashes, 7) == set()
