"""Balanced class weights: n / (k n_c), from the training part of a fold.

The weights that scikit-learn calls balanced: every class then weighs as much as every other, and
the mean weight of an example is 1. On the host, where the fold is known; see `trainer.losses`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SettingsError
from pipeline.records.label import LabelInfo
from trainer.losses.config import LossConfig


def balance_classes(
    config: LossConfig, label: LabelInfo, targets: npt.NDArray[Any], where: str
) -> LossConfig:
    """The loss with numbers for `"balanced"` class weights; any other is returned as it is.

    `targets` are those of the training part: int64 [N], or float [N, L] for multilabel; a -1
    (unknown) is not counted. `where` names the fold in an error.

    Raises:
      SettingsError: a class has no example in the training part, so no weight balances it.
    """
    if config.class_weights != "balanced":
        return config
    if label.kind == "multilabel":
        weights: Any = tuple(
            _balanced(
                _negatives_and_positives(targets[:, place]),
                ("negatives", "positives"),
                f"{where}: {name}",
            )
            for place, name in enumerate(label.classes)
        )
    else:
        counts = np.bincount(targets[targets >= 0], minlength=len(label.classes))
        weights = _balanced(counts, label.classes, where)
    return dataclasses.replace(config, class_weights=weights)


def _balanced(counts: npt.NDArray[Any], names: tuple[str, ...], where: str) -> tuple[float, ...]:
    for name, count in zip(names, counts, strict=True):
        if not count:
            raise SettingsError(
                f"{where}: loss.class_weights must be numbers, got 'balanced': "
                f"no training example of {name!r} to balance"
            )
    return tuple(float(counts.sum() / (len(counts) * count)) for count in counts)


def _negatives_and_positives(targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64 [2]; a soft target z counts as z positives and 1 - z negatives."""
    known = targets[targets >= 0].astype(np.float64)
    return np.array([(1 - known).sum(), known.sum()])
