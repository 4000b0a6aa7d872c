"""Figures of merit from predictions: exact, in numpy, so that a report starts without TensorFlow.

`trainer.task` and `trainer.ensemble` call `evaluate`; a figure that a table cannot have (an AUC of
rows of one class) is NaN, which they print as `n/a`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.predictions import Predictions, output_classes, positive_places, scores


def roc_auc(is_positive: npt.NDArray[np.bool_], score: npt.NDArray[np.floating]) -> float:
    """bool [N], float [N] -> the chance that a positive scores above a negative, ties half; or NaN.

    The Mann-Whitney statistic: sum of the positives' ranks, tied scores sharing their mean rank.
    """
    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_rank[place][is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(is_positive: npt.NDArray[np.bool_], score: npt.NDArray[np.floating]) -> float:
    """bool [N], float [N] -> the precision averaged over the positives, in [0, 1]; or NaN.

    Step-wise, without interpolation; a threshold lies between tied scores, never among them.
    """
    if not is_positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    is_last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(is_positive[order])[is_last_of_tie]
    taken = np.flatnonzero(is_last_of_tie) + 1
    return float((np.diff(found, prepend=0) * found / taken).sum() / found[-1])


def evaluate(predictions: Predictions) -> dict[str, float]:
    """`auc` and `average_precision`, for several classes `macro_auc`, of rows with a known target.

    `auc` is of the one score a row has (see `pipeline.predictions.scores`); without such a score it
    is the mean of the classes' AUC (each against the rest), and so is `average_precision`. Classes
    that are absent, or alone, are left out of means.
    """
    truths, probs = truth(predictions), predictions.probs
    by_class = [
        _both(truths[:, place], probs[:, place])
        for place in range(len(output_classes(predictions.label)))
    ]
    macro_auc, macro_precision = _mean_of_known(by_class)
    label = predictions.label
    if label.kind == "multilabel" or (label.kind == "multiclass" and not label.positive):
        return {"auc": macro_auc, "average_precision": macro_precision}
    if label.kind == "binary":
        auc, precision = by_class[0]
        return {"auc": auc, "average_precision": precision}
    is_positive = truths[:, positive_places(label)].max(axis=1)  # NaN stays NaN
    auc, precision = _both(is_positive, scores(predictions))
    return {"auc": auc, "average_precision": precision, "macro_auc": macro_auc}


def truth(predictions: Predictions) -> npt.NDArray[np.float64]:
    """float64 [N, L] of 0, 1 and NaN (unknown), a column an output class; soft targets cut at 0.5.

    What counts as positive, for every figure and every count.
    """
    label, targets = predictions.label, predictions.targets
    if label.kind == "multilabel":
        return np.where(targets < 0, np.nan, (targets >= 0.5).astype(np.float64))
    index = np.arange(len(label.classes))
    is_class = np.where(targets[:, None] < 0, np.nan, (targets[:, None] == index).astype(float))
    return is_class[:, 1:] if label.kind == "binary" else is_class


def _both(target: npt.NDArray[np.float64], score: npt.NDArray[np.float64]) -> tuple[float, float]:
    is_known = ~np.isnan(target)
    is_positive = target[is_known] == 1
    return roc_auc(is_positive, score[is_known]), average_precision(is_positive, score[is_known])


def _mean_of_known(figures: list[tuple[float, float]]) -> tuple[float, float]:
    known = [both for both in figures if not np.isnan(both[0])]
    if not known:
        return float("nan"), float("nan")
    auc, precision = np.mean(known, axis=0)
    return float(auc), float(precision)


def as_text(figure: float) -> str:
    """Four decimals, or `n/a` for a figure that the rows cannot give."""
    return "n/a" if np.isnan(figure) else f"{figure:.4f}"


def as_json(figures: Mapping[str, float]) -> dict[str, float | None]:
    """The figures with null for NaN, which JSON has not."""
    return {name: None if np.isnan(figure) else figure for name, figure in figures.items()}
