"""How the positives of one score stand among its negatives, fold by fold: sorted once, exact.

An area, a precision at a positive and a best threshold need no more than the number of negatives
above and beside each positive. Counted apart for every fold they add up to any set of folds, so
that choosing on k-1 folds, k times, costs one sort in place of k + 1. `trainer.ensemble.scoring`
calls this for each combination that a search tries. Counts are whole numbers in float64: exact.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Column:
    """Which units are positive and which negative, and in which of `folds` folds."""

    def __init__(self, truth: Floats, fold: npt.NDArray[np.intp], folds: int) -> None:
        """float64 [U] of 0, 1 and NaN (left out); int [U] in [0, folds)."""
        positives, negatives = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
        self._positives = positives
        self._positive_fold = fold[positives]
        self._negatives = negatives[np.argsort(fold[negatives], kind="stable")]
        self._starts = np.searchsorted(fold[self._negatives], np.arange(folds + 1))
        self._is_of_fold = (self._positive_fold[:, None] == np.arange(folds)).astype(np.float64)
        self.positives = self._is_of_fold.sum(axis=0)  # float64 [folds]
        self.negatives = np.diff(self._starts).astype(np.float64)

    def rank(self, score: Floats) -> Ranked:
        """Float64 [U], higher is more positive -> where it puts the positives."""
        positive = score[self._positives]
        order = np.argsort(positive, kind="stable")
        # searchsorted goes on from the last place when what it looks for rises.
        positive, negative = positive[order], score[self._negatives]
        below = np.empty((len(self.negatives), len(positive)))
        up_to = np.empty_like(below)
        for fold, (start, stop) in enumerate(itertools.pairwise(self._starts)):
            of_fold = negative[start:stop]
            of_fold.sort()
            below[fold] = of_fold.searchsorted(positive)
            up_to[fold] = of_fold.searchsorted(positive, side="right")
        return Ranked(self, positive, order, below, up_to)

    def folds_of(self, order: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], Floats]:
        """The folds of the positives in an order, int [P], and the same as float64 [P, folds]."""
        return self._positive_fold[order], self._is_of_fold[order]


class Ranked:
    """One score's positives in rising order, with the negatives of each fold below them."""

    def __init__(
        self,
        column: Column,
        positive: Floats,
        order: npt.NDArray[np.intp],
        below: Floats,
        up_to: Floats,
    ) -> None:
        """float64 [P]; int [P]; negatives below and not above each positive, [folds, P] both."""
        self._column, self._positive = column, positive
        self._below, self._up_to = below, up_to
        self._fold, self._is_of_fold = column.folds_of(order)

    def aucs(self) -> Floats:
        """float64 [1 + folds]: the AUC of all folds, then without each; NaN without both classes.

        The Mann-Whitney statistic, ties half.
        """
        # Twice the pairs won by the positives of one fold against the negatives of another.
        won = (self._below + self._up_to) @ self._is_of_fold
        total = won.sum()
        without = total - won.sum(axis=0) - won.sum(axis=1) + won.diagonal()
        positives, negatives = self._column.positives, self._column.negatives
        pairs = (positives.sum() - positives) * (negatives.sum() - negatives)
        with np.errstate(invalid="ignore"):
            return np.append(total, without) / np.append(
                2 * positives.sum() * negatives.sum(), 2 * pairs
            )

    def curve(self, is_in: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """bool [folds] -> positives found and alarms raised as the threshold falls, float64 [T].

        From (0, 0) to all of them; before and after each score that a positive has, as
        `trainer.intervals.Metric` takes them. The third is the threshold of each point: scores at
        or above it are taken.
        """
        kept = is_in[self._fold]
        positive = self._positive[kept]
        starts = np.flatnonzero(np.append(True, np.diff(positive) != 0)[: len(positive)])[::-1]
        negatives = self._column.negatives[is_in].sum()
        below = self._below[is_in][:, kept][:, starts].sum(axis=0)
        up_to = self._up_to[is_in][:, kept][:, starts].sum(axis=0)
        points = np.zeros((2, 2 * len(starts) + 2))
        points[0, 2:-1:2] = len(positive) - starts
        points[0, 3:-1:2] = points[0, 2:-2:2]
        points[1, 1:-1:2] = negatives - up_to
        points[1, 2:-1:2] = negatives - below
        points[:, -1] = len(positive), negatives
        thresholds = np.full(points.shape[1], -np.inf)
        thresholds[0] = np.inf
        thresholds[1:-1:2] = np.nextafter(positive[starts], np.inf)
        thresholds[2:-1:2] = positive[starts]
        return points[0], points[1], thresholds
