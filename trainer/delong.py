"""DeLong's variance of an AUC, and of the difference of two on the same rows.

`trainer.report` shows it beside the intervals resampled by group: it takes every image for a
witness of its own, so where a patient has several it promises too much. numpy alone.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def delong(is_positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """bool [N], float64 [M, N], a row a model -> the AUCs [M] and their covariance [M, M].

    NaN where a class has fewer than two rows. DeLong, DeLong and Clarke-Pearson (Biometrics 44,
    1988), by the mid-ranks of Sun and Xu (IEEE Signal Processing Letters 21, 2014): O(N log N).
    """
    positives, negatives = scores[:, is_positive], scores[:, ~is_positive]
    m, n = positives.shape[1], negatives.shape[1]
    if m < 2 or n < 2:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    # Of each positive the share of negatives below it, and of each negative of positives above.
    both = [mid_ranks(np.concatenate(pair)) for pair in zip(positives, negatives, strict=True)]
    ranks = np.stack(both)
    below = (ranks[:, :m] - np.stack([mid_ranks(row) for row in positives])) / n
    above = 1 - (ranks[:, m:] - np.stack([mid_ranks(row) for row in negatives])) / m
    covariance = np.atleast_2d(np.cov(below)) / m + np.atleast_2d(np.cov(above)) / n
    return below.mean(axis=1), covariance


def delong_interval(
    is_positive: npt.NDArray[np.bool_], score: Floats, level: float = 0.95
) -> tuple[float, float]:
    """bool [N], float64 [N] -> the ends of the AUC's normal interval, cut to [0, 1]; or NaN."""
    auc, covariance = delong(is_positive, score[None])
    reach = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(covariance[0, 0])
    low, high = np.clip([auc[0] - reach, auc[0] + reach], 0, 1)
    return float(low), float(high)


def mid_ranks(values: Floats) -> Floats:
    """float64 [N] -> the ranks from 1, float64 [N]; tied values share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
