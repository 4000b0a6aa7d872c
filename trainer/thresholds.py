"""Where to cut a score, chosen on k - 1 folds and applied to the other.

A threshold chosen on the rows that it is judged by flatters every figure made with it. `trainer.
report` calls `decide_out_of_fold`, which never shows a fold to the choice of its own threshold.
numpy alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
# True and false positives, false and true negatives, each float64 [...] -> how good, float64 [...].
Criterion = Callable[[Floats, Floats, Floats, Floats], Floats]

CUT_INTO = 5  # rows of one part, by group


def sensitivity(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """The share of positives found; NaN without positives."""
    return _share(tp, tp + fn)


def specificity(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """The share of negatives left alone; NaN without negatives."""
    return _share(tn, tn + fp)


def balanced_accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """The mean of sensitivity and specificity."""
    return (_share(tp, tp + fn) + _share(tn, tn + fp)) / 2


def f_beta(beta: float) -> Criterion:
    """Precision and sensitivity in one, sensitivity `beta` times as dear; NaN without positives."""

    def f(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
        f_of = _share((1 + beta**2) * tp, (1 + beta**2) * tp + beta**2 * fn + fp)
        return np.where(tp + fn > 0, f_of, np.nan)

    return f


def at_specificity(least: float) -> Criterion:
    """The sensitivity, of the thresholds that are at least this specific."""

    def held(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
        # 0.1 of 10 negatives is one of them, though 1 - 0.9 is a little less than 0.1.
        is_held = specificity(tp, fp, fn, tn) >= least - 1e-9
        return np.where(is_held, sensitivity(tp, fp, fn, tn), -1.0)

    return held


RATES: Mapping[str, Criterion] = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "balanced accuracy": balanced_accuracy,
    "F1": f_beta(1),
    "F2": f_beta(2),
}
CRITERIA: Mapping[str, Criterion] = {
    name: RATES[name] for name in ("balanced accuracy", "F1", "F2")
}


def choose_threshold(
    is_positive: npt.NDArray[np.bool_], score: Floats, criterion: Criterion
) -> float:
    """bool [N], float64 [N], both classes -> the best threshold; a row is positive from it on.

    Between two scores that occur, in their middle; of equally good ones the highest. `-inf` where
    it is best to take all.
    """
    order = np.argsort(-score, kind="stable")
    is_last_of_tie = np.append(np.diff(score[order]) != 0, True)
    tp = np.cumsum(is_positive[order])[is_last_of_tie].astype(np.float64)
    fp = np.cumsum(~is_positive[order])[is_last_of_tie].astype(np.float64)
    best = int(np.argmax(criterion(tp, fp, tp[-1] - tp, fp[-1] - fp)))
    taken = score[order][is_last_of_tie]
    return float((taken[best] + taken[best + 1]) / 2) if best + 1 < len(taken) else -np.inf


def decide_out_of_fold(
    target: Floats, score: Floats, folds: npt.NDArray[np.int64], criterion: Criterion
) -> tuple[npt.NDArray[np.bool_], dict[int, float]]:
    """float64 [N] of 0, 1 and NaN, float64 [N], int64 [N] -> taken for positive, bool [N]; and each
    fold's threshold, chosen on the rows of all others.
    """
    thresholds = {}
    for fold in np.unique(folds):
        is_other = (folds != fold) & ~np.isnan(target)
        thresholds[int(fold)] = choose_threshold(target[is_other] == 1, score[is_other], criterion)
    return score >= np.array([thresholds[int(fold)] for fold in folds]), thresholds


def is_choosable(target: Floats, folds: npt.NDArray[np.int64]) -> bool:
    """Whether the others of every fold hold both classes."""
    return all({0.0, 1.0} <= set(target[folds != fold].tolist()) for fold in np.unique(folds))


def choosing_folds(frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    """int64 [N]: the folds of the table; rows of one part are cut into five by their groups.

    By a hash of the group's name, so that no group is on both sides.
    """
    folds = frame["fold"].to_numpy(np.int64)
    if len(np.unique(folds)) > 1:
        return folds
    return np.array([zlib.crc32(str(name).encode()) % CUT_INTO for name in frame["group"]])


def _share(part: Floats, whole: Floats) -> Floats:
    """NaN of nothing."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
