"""One table against others, paired: on the same rows, by the same draws.

Called by `trainer.report.__main__`; the page and `metrics.json` show what it gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from pipeline.predictions import Predictions
from trainer.delong import delong
from trainer.intervals import LEVEL, Interval, interval_of
from trainer.report.findings import HEADLINES, Findings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """First minus other, by headline."""

    other: Findings
    differences: dict[str, Interval]
    delong: tuple[float, float] | None  # of the difference of AUCs; None for means of several


def same_groups(members: Sequence[Predictions]) -> list[Predictions]:
    """Aligned tables with the groups of the first, so that they are drawn alike."""
    group = members[0].frame["group"]
    return [dataclasses.replace(of, frame=of.frame.assign(group=group)) for of in members]


def compare(first: Findings, other: Findings) -> Comparison:
    """Both found with the same draws and seed, in aligned tables."""
    differences = {
        name: interval_of(first.drawn[of] - other.drawn[of], LEVEL, first.unit)
        for name, of in HEADLINES.items()
    }
    return Comparison(other=other, differences=differences, delong=_delong(first, other))


def _delong(first: Findings, other: Findings) -> tuple[float, float] | None:
    if len(first.columns) > 1:
        return None
    (mine,), (theirs,) = first.columns, other.columns
    known = mine.is_known
    scores = np.stack([mine.score[known], theirs.score[known]])
    aucs, covariance = delong(mine.is_positive[known], scores)
    # Rounding makes the variance of two equal scores a little less than zero.
    variance = max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * variance**0.5
    return float(aucs[0] - aucs[1] - reach), float(aucs[0] - aucs[1] + reach)
