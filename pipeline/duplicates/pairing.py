"""Thumbnails of one dataset, or of two → the pairs that are one picture.

Hashes propose (`banding`), pixels decide (`likeness`). Called by `beam_jobs.duplicates_job`.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.duplicates.banding import HashIndex, Ints
from pipeline.duplicates.hashing import TURNS, VIEWS, Hashes, hash_turns, hash_views
from pipeline.duplicates.likeness import LEAST_FIT, fit_detail
from pipeline.duplicates.thumbnail import Thumbnails
from pipeline.ordered import map_ordered

_AT_ONCE = 256  # images whose hashes are looked up by a thread
_COMPARED_AT_ONCE = 64  # pairs: 256 no longer fit a core's cache, and take 1.7 times as long each
_MOST_PROPOSED = 1 << 20  # new ones held before the closest of each two are sorted out

# int64 [K, 3]: the places of two images, and the bits in which their hashes differ.
Pairs = npt.NDArray[np.int64]


def find_within(thumbnails: Thumbnails, distance: int, pool: Executor) -> Pairs:
    """uint8 [N, 48, 48] → pairs whose first place is the lower, in order.

    Equal thumbnails are each paired with the first of them alone, at distance 0, and only that one
    with others: a thousand copies give a thousand pairs, not half a million.
    """
    kept, copied = _first_of_equal(thumbnails)
    distinct = thumbnails[kept]
    found = _search(distinct, distinct, distance, pool)
    ends = np.sort(kept[found[:, :2]], axis=1)
    copies = np.flatnonzero(copied != np.arange(len(copied)))
    equal = np.stack([copied[copies], copies, np.zeros_like(copies)], axis=1)
    return _nearest(np.concatenate([np.column_stack([ends, found[:, 2]]), equal]))


def find_across(firsts: Thumbnails, seconds: Thumbnails, distance: int, pool: Executor) -> Pairs:
    """uint8 [N, 48, 48] and [M, 48, 48] → pairs of an image of each, in order.

    Every image that has a partner is in a pair; among equal ones of a dataset, the first stands for
    the others in their pairs with the other dataset.
    """
    kept, copied = _first_of_equal(firsts)
    kept_others, copied_others = _first_of_equal(seconds)
    one, other = firsts[kept], seconds[kept_others]
    found = _search(one, other, distance, pool)
    back = _search(other, one, distance, pool)[:, [1, 0, 2]]
    found = np.concatenate([found, back])
    found[:, 0], found[:, 1] = kept[found[:, 0]], kept_others[found[:, 1]]
    return _nearest(
        np.concatenate([_with_copies(found, 0, copied), _with_copies(found, 1, copied_others)])
    )


def _search(one: Thumbnails, other: Thumbnails, distance: int, pool: Executor) -> Pairs:
    """Pairs of an image of `one`, whole and turned, and one of `other`, whole or cropped.

    Where both are the same array, no image is paired with itself.
    """
    index = HashIndex(hash_views(other).ravel())

    def search(start: int) -> Pairs:
        some = one[start : start + _AT_ONCE]
        near = _propose(hash_turns(some).ravel(), index, distance)
        near = near[near[:, 0] + start != near[:, 1]] if one is other else near
        alike = [
            _compare(some, other, near[first : first + _COMPARED_AT_ONCE])
            for first in range(0, len(near), _COMPARED_AT_ONCE)
        ]
        pairs = np.concatenate([_NO_PAIRS, *alike])
        pairs[:, 0] += start
        return pairs

    starts = range(0, len(one), _AT_ONCE)
    return np.concatenate([_NO_PAIRS, *map_ordered(pool, search, starts)])


def _propose(turned: Hashes, index: HashIndex, distance: int) -> Ints:
    """Hashes of turns → [K, 5]: image, other image, bits, turn, view; the closest of each two."""
    proposed: list[Ints] = []
    count = 0
    for close in index.near(turned, distance):
        image, turn = np.divmod(close.query, len(TURNS))
        other, view = np.divmod(close.entry, len(VIEWS))
        proposed.append(np.stack([image, other, close.distance, turn, view], axis=1))
        count += len(image)
        if count > _MOST_PROPOSED:
            proposed = [_nearest(np.concatenate(proposed))]
            count = 0
    return _nearest(np.concatenate([np.empty((0, 5), np.int64), *proposed]))


def _compare(some: Thumbnails, other: Thumbnails, near: Ints) -> Pairs:
    """The rows of `_propose` that are one picture."""
    image, place, _, turns, views = near.T
    return near[fit_detail(some[image], other[place], turns, views) >= LEAST_FIT, :3]


def _nearest(rows: Ints) -> Ints:
    """[K, 3 or more] in order; of rows with the same first two, the lowest."""
    rows = rows[np.lexsort(rows.T[::-1])]
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    return rows[is_new]


def _first_of_equal(thumbnails: Thumbnails) -> tuple[Ints, Ints]:
    """Places of the images that no earlier one equals, and of each image's first equal, [N]."""
    contents = np.array([thumbnail.tobytes() for thumbnail in thumbnails], dtype=object)
    codes, _ = pd.factorize(contents)
    _, kept = np.unique(codes, return_index=True)
    return kept, kept[codes]


def _with_copies(pairs: Pairs, column: int, first: Ints) -> Pairs:
    """The pairs, each repeated for every image whose first equal is the one in `column`."""
    members = pd.DataFrame({"first": first, "member": np.arange(len(first))})
    table = pd.DataFrame({"first": pairs[:, column], "pair": np.arange(len(pairs))})
    joined = table.merge(members, on="first")
    repeated: Pairs = pairs[joined["pair"].to_numpy()]
    repeated[:, column] = joined["member"].to_numpy()
    return repeated


_NO_PAIRS = np.empty((0, 3), np.int64)
