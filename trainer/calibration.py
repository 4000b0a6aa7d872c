"""Whether a probability is a probability: Brier score, calibration error, temperature scaling.

`trainer.report` calls it. A temperature changes no order and so no AUC; like everything chosen it
is fitted on the other folds (`scale_out_of_fold`). numpy alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from pipeline.predictions import Predictions, output_classes
from pipeline.records.label import LabelKind
from trainer.metrics import truth

Floats = npt.NDArray[np.float64]

BINS = 15  # of equal width, as in Guo et al. (ICML 2017)
_LIMITS = (0.01, 100.0)  # of a temperature; separable rows have none that is best


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reliability:
    """Of the bins that hold rows: the mean probability, the share of positives, and the rows."""

    predicted: Floats  # [B] in [0, 1]
    observed: Floats  # [B] in [0, 1]
    rows: npt.NDArray[np.int64]  # [B]


def bin_of(prob: Floats) -> npt.NDArray[np.int64]:
    """float64 [N] in [0, 1] -> the bin of each, int64 [N] below BINS; 1 is in the last."""
    return np.minimum((prob * BINS).astype(np.int64), BINS - 1)


def reliability(target: Floats, prob: Floats) -> Reliability:
    """float64 [N] of 0 and 1, float64 [N] in [0, 1]."""
    rows = np.bincount(bin_of(prob), minlength=BINS)
    is_held = rows > 0
    predicted, observed = (
        np.bincount(bin_of(prob), values, BINS)[is_held] / rows[is_held]
        for values in (prob, target)
    )
    return Reliability(predicted=predicted, observed=observed, rows=rows[is_held])


def calibration_error(target: Floats, prob: Floats) -> float:
    """The expected calibration error: |observed - predicted| of a bin, averaged over the rows."""
    curve = reliability(target, prob)
    return float(np.average(np.abs(curve.observed - curve.predicted), weights=curve.rows))


def brier_score(target: Floats, prob: Floats) -> float:
    """The mean squared difference, in [0, 1]."""
    return float(np.mean((prob - target) ** 2))


def fit_temperature(logits: Floats, truths: Floats, kind: LabelKind) -> float:
    """float64 [N, L] logits, [N, L] of 0, 1 and NaN (unknown) -> the temperature in [0.01, 100].

    What makes the targets likeliest. The likelihood's slope falls steadily in 1 / temperature, so
    its zero is found by halving.
    """
    is_known = ~np.isnan(truths)
    low, high = (1 / limit for limit in reversed(_LIMITS))
    while high - low > 1e-9 * high:
        middle = (low * high) ** 0.5
        surplus = (_probs(middle * logits, kind) - truths) * logits
        low, high = (low, middle) if surplus[is_known].sum() > 0 else (middle, high)
    return 1 / low


def scale_out_of_fold(
    predictions: Predictions, folds: npt.NDArray[np.int64]
) -> tuple[Predictions, dict[int, float]]:
    """The predictions with the probabilities of scaled logits, and each fold's temperature.

    `folds` int64 [N]; the temperature of one is fitted on the rows of all others.
    """
    label, truths, logits = predictions.label, truth(predictions), predictions.logits
    temperatures = {
        int(fold): fit_temperature(logits[folds != fold], truths[folds != fold], label.kind)
        for fold in np.unique(folds)
    }
    of_row = np.array([temperatures[int(fold)] for fold in folds])
    probs = _probs(logits / of_row[:, None], label.kind)
    columns = {f"prob_{name}": probs[:, at] for at, name in enumerate(output_classes(label))}
    scaled = dataclasses.replace(predictions, frame=predictions.frame.assign(**columns))
    return scaled, temperatures


def _probs(logits: Floats, kind: LabelKind) -> Floats:
    if kind == "multiclass":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))
    return np.asarray((1 + np.tanh(logits / 2)) / 2)  # the sigmoid; exp would overflow
