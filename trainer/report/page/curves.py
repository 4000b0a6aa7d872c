"""The points of ROC, precision-recall and learning curves.

Called by `trainer.report.__main__` and `trainer.report.page.drawings`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from trainer.report.figures import Column
from trainer.run_folder import METRICS_NAME

Point = tuple[float, float]

_STEP = 1 / 1000  # of an axis: less is less than half a pixel of the widest page
_LOSSES: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    "training loss": lambda line: line.get("loss"),
    "validation loss": lambda line: line.get("validation", {}).get("loss"),
    "validation AUC": lambda line: line.get("validation", {}).get("auc"),
}


def roc_points(column: Column) -> tuple[Point, ...]:
    """(1 - specificity, sensitivity) of every threshold, from (0, 0) to (1, 1)."""
    tp, fp = _counts(column)
    return _thinned(fp / fp[-1], tp / tp[-1])


def precision_points(column: Column) -> tuple[Point, ...]:
    """(sensitivity, precision) of every threshold that takes a row."""
    tp, fp = _counts(column)
    return _thinned(tp[1:] / tp[-1], tp[1:] / (tp + fp)[1:])


def learning_curves(run: str) -> dict[str, dict[str, tuple[Point, ...]]]:
    """What `RUN/foldK/metrics.jsonl` tell: what is measured -> fold -> (epoch, value).

    Empty where `run` is no run folder.
    """
    if run.endswith(".parquet"):
        return {}
    curves: dict[str, dict[str, tuple[Point, ...]]] = {}
    for fold in storage.list_names(run):
        path = storage.join(run, fold, METRICS_NAME)
        if not fold.startswith("fold") or not storage.exists(path):
            continue
        lines = [json.loads(line) for line in storage.read_text(path).splitlines()]
        for name, value_of in _LOSSES.items():
            values = [(float(line["epoch"]), value_of(line)) for line in lines]
            known = tuple(
                (epoch, value) for epoch, value in values if value is not None and isfinite(value)
            )
            if known:
                curves.setdefault(name, {})[fold] = known
    return curves


def _counts(column: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """True and false positives at each threshold, falling, from none to all."""
    known = column.is_known
    score, is_positive = column.score[known], column.is_positive[known]
    order = np.argsort(-score, kind="stable")
    is_last_of_tie = np.append(np.diff(score[order]) != 0, True)
    tp, fp = (
        np.append(0.0, np.cumsum(taken[order])[is_last_of_tie])
        for taken in (is_positive, ~is_positive)
    )
    return tp, fp


def _thinned(across: npt.NDArray[np.float64], up: npt.NDArray[np.float64]) -> tuple[Point, ...]:
    """Without points that lie on the last one kept, and without the middles of straight lines."""
    points = np.round(np.stack([across, up], axis=1) / _STEP).astype(np.int64)
    points = points[np.append(True, np.any(np.diff(points, axis=0), axis=1))]
    before, after = points[1:-1] - points[:-2], points[2:] - points[1:-1]
    is_bend = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = points[np.concatenate([[True], is_bend, [True]])[: len(points)]] * _STEP
    return tuple((float(x), float(y)) for x, y in kept)
