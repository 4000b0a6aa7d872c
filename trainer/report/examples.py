"""Which predictions the page shows one by one: a grid of 25, and the most confident mistakes.

Called by `trainer.report.__main__`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from trainer.report.findings import Findings

GRID = 25
MISTAKES = 12  # of each kind
_CRITERION = "balanced accuracy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """One prediction."""

    id: str
    truth: str  # the names of its classes
    said: str  # the class scored
    score: float
    fold: int  # which was left out when the threshold was chosen
    threshold: float  # -inf where it takes every row
    is_right: bool


def choose_grid(findings: Findings, seed: int) -> list[Shown]:
    """25 rows drawn by the seed, up to 12 of them positive, in order of score."""
    rng = np.random.default_rng(seed)
    is_positive = np.any([column.is_positive for column in findings.columns], axis=0)
    positives, negatives = (
        rng.permutation(np.flatnonzero(findings.is_known & (is_positive == side)))
        for side in (True, False)
    )
    of_positives = min(len(positives), max(GRID // 2, GRID - len(negatives)))
    places = np.concatenate([positives[:of_positives], negatives[: GRID - of_positives]])
    columns = np.stack([column.score for column in findings.columns], axis=1)[places].argmax(axis=1)
    found = [_shown(findings, *both) for both in zip(places, columns, strict=True)]
    return sorted(found, key=lambda shown: -shown.score)


def choose_mistakes(findings: Findings) -> tuple[list[Shown], list[Shown]]:
    """False alarms, the highest scores first, and misses, the lowest first.

    By the thresholds chosen out of fold for balanced accuracy; over all columns.
    """
    target = np.stack([column.target for column in findings.columns], axis=1)
    score = np.stack([column.score for column in findings.columns], axis=1)
    taken = np.stack([column.decisions[_CRITERION] for column in findings.columns], axis=1)
    alarms = _ranked(taken & (target == 0), -score)
    misses = _ranked(~taken & (target == 1), score)
    both = [[_shown(findings, *place) for place in kind] for kind in (alarms, misses)]
    return both[0], both[1]


def _ranked(
    is_in: npt.NDArray[np.bool_], key: npt.NDArray[np.float64]
) -> list[tuple[np.intp, np.intp]]:
    """(row, column) of those with the smallest keys."""
    rows, columns = np.nonzero(is_in)
    order = np.argsort(key[rows, columns], kind="stable")[:MISTAKES]
    return list(zip(rows[order], columns[order], strict=True))


def _shown(findings: Findings, place: np.intp, column: np.intp) -> Shown:
    of, fold = findings.columns[int(column)], int(findings.folds[place])
    return Shown(
        id=str(findings.predictions.frame["id"].iloc[int(place)]),
        truth=_truth(findings, int(place)),
        said=of.name,
        score=float(of.score[place]),
        fold=fold,
        threshold=of.thresholds[_CRITERION][fold],
        is_right=bool(of.decisions[_CRITERION][place] == of.is_positive[place]),
    )


def _truth(findings: Findings, place: int) -> str:
    label, target = findings.predictions.label, findings.predictions.targets[place]
    if label.kind != "multilabel":
        return label.classes[int(target)]
    held = [name for name, value in zip(label.classes, target, strict=True) if value >= 0.5]
    return ", ".join(held) or "none"
