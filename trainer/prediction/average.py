"""The logits of several views and folds → one prediction a row. Numpy alone.

A view's score is taken as it is (`prob`), as its logit (`logit`), or as its rank among all the rows
that the same fold predicts in the same view (`rank`); the mean over views and folds is the answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.stats

from pipeline.combine import Probs, inverse_logits, logits_of

Average = Literal["prob", "logit", "rank"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """What one fold says: int64 [N] rows, each once, and float32 [N, V, L] logits of the views."""

    rows: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Averaged:
    """In order of row: float64 [N, L] logits and probabilities, and [N, V, L] of each view."""

    rows: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float64]
    probs: Probs
    view_probs: npt.NDArray[np.float64]


def average(outputs: Sequence[Outputs], kind: str, by: Average) -> Averaged:
    """The mean over views, and over the folds that predict a row; `kind` is the label's.

    Ranks are no probabilities, though in [0, 1]; of several classes they are scaled to sum to one.
    A row with one view of one fold keeps its logits, whatever the mean is of.
    """
    rows, places = np.unique(np.concatenate([of.rows for of in outputs]), return_inverse=True)
    counts = np.bincount(places)
    total = np.zeros((len(rows), *outputs[0].logits.shape[1:]))
    start = 0
    for of in outputs:
        # Each row once a fold, so that nothing is added to twice in one go.
        total[places[start : start + len(of.rows)]] += _on_scale(of.logits, kind, by)
        start += len(of.rows)
    by_view = total / counts[:, None, None]
    logits, probs = _from_scale(by_view.mean(axis=1), kind, by)
    if by == "prob" and by_view.shape[1] == 1:
        is_one = counts[places] == 1
        alone = np.concatenate([of.logits for of in outputs])[is_one, 0]
        logits[places[is_one]] = alone
    return Averaged(
        rows=rows, logits=logits, probs=probs, view_probs=_view_probs(by_view, kind, by)
    )


def _on_scale(logits: npt.NDArray[np.float32], kind: str, by: Average) -> npt.NDArray[np.float64]:
    """[N, V, L] logits → what is averaged."""
    exact = logits.astype(np.float64)
    if by == "logit":
        return exact
    if by == "rank":
        # Of logits for two classes as good as of probabilities, and without ties at 0 and 1.
        ranked = exact if kind != "multiclass" else _probs(exact, kind)
        return np.asarray((scipy.stats.rankdata(ranked, axis=0) - 0.5) / len(ranked))
    return _probs(exact, kind)


def _from_scale(
    mean: npt.NDArray[np.float64], kind: str, by: Average
) -> tuple[npt.NDArray[np.float64], Probs]:
    """[N, L] means → logits and probabilities."""
    if by == "logit":
        return mean, inverse_logits(mean, kind)
    if by == "rank" and kind == "multiclass":
        mean = mean / mean.sum(axis=1, keepdims=True)
    return logits_of(mean, kind), mean


def _view_probs(
    by_view: npt.NDArray[np.float64], kind: str, by: Average
) -> npt.NDArray[np.float64]:
    views = [_from_scale(by_view[:, view], kind, by)[1] for view in range(by_view.shape[1])]
    return np.stack(views, axis=1)


def _probs(logits: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    """[N, V, L] → the same as probabilities; softmax is over the last."""
    flat = inverse_logits(logits.reshape(-1, logits.shape[2]), kind)
    return flat.reshape(logits.shape)
