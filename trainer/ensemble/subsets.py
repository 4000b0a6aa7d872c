"""The figure of every subset of the members: exhaustive, exact, in threads.

    2^M - 1 sums, each one addition away from a smaller one

A subset's scores are added in the order of the members, whichever thread does it, so they are the
very sums that `pipeline.combine` divides by the number of members, and equal scores stay equal.
(A Gray code would be one addition away as well, but subtracts and gathers rounding errors.)
numpy's sort runs outside of Python's lock; `benchmarks/ensembles.py` measures it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from trainer.ensemble.scoring import Floats, Scorer

MOST_MEMBERS = 20  # a million subsets
_SPLIT = 5  # members whose subsets, 32, are a task each


def figures_of_subsets(
    members: Sequence[Floats], scorer: Scorer, threads: int | None = None
) -> Floats:
    """M arrays [N, L] -> float64 [2**M, 1 + folds] of `Scorer.chosen_by`.

    Bit m of a row's number says that member m is in; the empty subset's figures are NaN.
    """
    assert 1 <= len(members) <= MOST_MEMBERS
    columns = [scorer.columns(probs) for probs in members]
    split = min(_SPLIT, len(members))
    figures = np.full((2 ** len(members), 1 + len(scorer.folds)), np.nan)

    def visit(mask: int, total: Floats | None, following: int) -> None:
        """Scores the subset and, member by member, all that add later ones to it."""
        if total is not None:
            figures[mask] = scorer.chosen_by(scorer.of_units(total))
        for member in range(following, len(columns)):
            added = columns[member] if total is None else total + columns[member]
            visit(mask | 1 << member, added, member + 1)

    def visit_beyond(mask: int) -> None:
        """A subset of the first `split` members, and all that add further ones."""
        total = None
        for member in range(split):
            if mask >> member & 1:
                total = columns[member] if total is None else total + columns[member]
        visit(mask, total, split)

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        list(pool.map(visit_beyond, range(2**split)))
    return figures


def best_subset(figures: Floats) -> tuple[int, ...]:
    """float64 [2**M] -> the places of the members with the highest figure.

    Of equal figures the fewest members win, then the first in order; none where all are NaN.
    """
    if np.isnan(figures).all():
        return ()
    masks = np.flatnonzero(figures == np.nanmax(figures))
    return min((_places(mask) for mask in masks.tolist()), key=lambda places: (len(places), places))


def _places(mask: int) -> tuple[int, ...]:
    return tuple(place for place in range(mask.bit_length()) if mask >> place & 1)


def chosen_weights(places: Sequence[int], members: int) -> npt.NDArray[np.float64]:
    """float64 [members]: how often each place is named."""
    return np.bincount(places, minlength=members).astype(np.float64)
