"""What there is to say about one table of predictions: every number of the page.

`trainer.report.page`, `metrics.json` and the model card show the same `Findings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SettingsError
from pipeline.predictions import (
    Predictions,
    PredictionsError,
    output_classes,
    positive_places,
    scores,
)
from trainer.calibration import scale_out_of_fold
from trainer.delong import delong_interval
from trainer.intervals import LEVEL, Interval, interval_of
from trainer.metrics import truth
from trainer.report.figures import Column, Drawn, drawn_figures, unit_of
from trainer.thresholds import (
    CRITERIA,
    Criterion,
    at_specificity,
    choosing_folds,
    decide_out_of_fold,
    is_choosable,
)

HEADLINES = {  # what the page and the card show first -> the drawn figure behind it
    "AUC": "AUC",
    "average precision": "AP",
    "sensitivity": "sensitivity, balanced accuracy",
    "specificity": "specificity, balanced accuracy",
    "balanced accuracy": "balanced accuracy, balanced accuracy",
    "F1": "F1, F1",
    "F2": "F2, F2",
    "Brier": "Brier",
    "ECE": "ECE",
    "Brier after scaling": "Brier scaled",
    "ECE after scaling": "ECE scaled",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """Somebody's sensitivity and specificity, to stand beside the curve."""

    name: str
    sensitivity: float
    specificity: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """One table judged: its columns, and the figures of all rows, of each fold and class."""

    name: str  # as it was given
    predictions: Predictions
    columns: tuple[Column, ...]  # one where a row has one score, else one a class
    by_class: tuple[Column, ...]  # of several classes, each against the rest
    left_out: tuple[str, ...]  # classes without enough rows to choose on
    folds: npt.NDArray[np.int64]  # [N] on whose others each row's threshold was chosen
    is_cut_by_group: bool  # those folds are not the table's own
    temperatures: Mapping[int, float]
    drawn: Drawn
    unit: str  # what was drawn: "group" or "row"

    @property
    def selected_on(self) -> tuple[str, ...]:
        """The parts that chose weights or rates."""
        return tuple(self.predictions.run.get("selected_on", ()))

    @property
    def groups(self) -> list[str]:
        """[N], the name of each row's."""
        return [str(name) for name in self.predictions.frame["group"]]

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """[N]: whether the row has a target."""
        return np.asarray(np.any([column.is_known for column in self.columns], axis=0))

    def interval(self, name: str) -> Interval:
        """Of a drawn figure."""
        return interval_of(self.drawn[name], LEVEL, self.unit)

    def delong(self) -> tuple[float, float] | None:
        """The ends of the interval that takes rows for independent; None for a mean of AUCs."""
        if len(self.columns) > 1:
            return None
        (column,) = self.columns
        known = column.is_known
        return delong_interval(column.is_positive[known], column.score[known], LEVEL)


def find(
    name: str, predictions: Predictions, *, points: tuple[Point, ...], draws: int, seed: int
) -> Findings:
    """Judges a table.

    Raises:
      PredictionsError: there is no row with a target, or only one class.
      SettingsError: there are points, and rows have a score a class.
    """
    label, folds = predictions.label, choosing_folds(predictions.frame)
    truths = truth(predictions)
    _check(name, predictions, truths, folds)
    scaled, temperatures = scale_out_of_fold(predictions, folds)
    criteria = {**CRITERIA, **{_of_point(at): at_specificity(at.specificity) for at in points}}
    classes = output_classes(label)
    each = [
        _column(of, truths[:, at], predictions.probs[:, at], scaled.probs[:, at], folds, criteria)
        for at, of in enumerate(classes)
        if is_choosable(truths[:, at], folds)
    ]
    columns = tuple(each)
    if label.kind == "multiclass" and label.positive:
        is_positive = truths[:, positive_places(label)].max(axis=1)
        joined = " or ".join(label.positive)
        columns = (
            _column(joined, is_positive, scores(predictions), scores(scaled), folds, criteria),
        )
    if points and len(columns) > 1:
        raise SettingsError(
            f"--point: rows must have one score, got {len(columns)} classes in {name}; "
            "leave the flag out, or name the positive classes in the dataset spec"
        )
    groups = [str(group) for group in predictions.frame["group"]]
    return Findings(
        name=name,
        predictions=predictions,
        columns=columns,
        by_class=tuple(each) if len(classes) > 1 else (),
        left_out=tuple(_set_apart(classes, each)),
        folds=folds,
        is_cut_by_group=bool((folds != predictions.frame["fold"]).any()),
        temperatures=temperatures,
        drawn=drawn_figures(columns, groups, draws=draws, seed=seed),
        unit=unit_of(columns, groups),
    )


def _set_apart(classes: tuple[str, ...], kept: list[Column]) -> list[str]:
    """The classes that have no column."""
    names = {column.name for column in kept}
    return [name for name in classes if name not in names]


def to_json(findings: Findings) -> dict[str, Any]:
    """Every figure of all rows, of folds and of classes, with null for what there is not.

    A threshold that takes every row is null too.
    """
    figures = {of: as_table(findings.interval(of)) for of in findings.drawn}
    if delong := findings.delong():
        figures["AUC"]["delong"] = [_number(end) for end in delong]
    thresholds = {
        column.name: {of: {str(k): _number(at) for k, at in folds.items()}
                      for of, folds in column.thresholds.items()}
        for column in findings.columns
    }  # fmt: skip
    return {
        "name": findings.name,
        "rows": int(findings.is_known.sum()),
        "positives": {column.name: int(column.is_positive.sum()) for column in findings.columns},
        "drawn_by": findings.unit,
        "selected_on": list(findings.selected_on),
        "chosen_on": "groups cut by hash" if findings.is_cut_by_group else "the other folds",
        "figures": figures,
        "by_fold": {
            str(fold): {of: _number(value) for of, value in found.items()}
            for fold, found in of_folds(findings).items()
        },
        "by_class": {
            column.name: {
                of: _number(values[0])
                for of, values in drawn_figures([column], findings.groups, draws=0, seed=0).items()
            }
            for column in findings.by_class
        },
        "classes_left_out": list(findings.left_out),
        "thresholds": thresholds,
        "temperatures": {str(fold): at for fold, at in findings.temperatures.items()},
    }


def of_folds(findings: Findings) -> dict[int, dict[str, float]]:
    """The figures of each fold alone, with the thresholds that the others chose."""
    groups = np.array(findings.groups, object)
    found = {}
    for fold in np.unique(findings.folds):
        is_in = findings.folds == fold
        columns = [column.of_rows(is_in) for column in findings.columns]
        # As in `trainer.metrics.evaluate`: classes that are absent, or alone, are in no mean.
        columns = [of for of in columns if {0.0, 1.0} <= set(of.target.tolist())] or columns
        drawn = drawn_figures(columns, groups[is_in].tolist(), draws=0, seed=0)
        found[int(fold)] = {name: float(values[0]) for name, values in drawn.items()}
    return found


def as_table(interval: Interval) -> dict[str, Any]:
    """An interval as JSON."""
    ends = [_number(interval.low), _number(interval.high)]
    return {"figure": _number(interval.figure), "interval": ends, "skipped": interval.skipped}


def _check(
    name: str, predictions: Predictions, truths: npt.NDArray[np.float64],
    folds: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    label = predictions.label
    if label.kind == "none":
        raise PredictionsError(f"{name}: label must be known for a report, got kind 'none'")
    is_known = ~np.isnan(truths).all(axis=1)
    if not is_known.any():
        raise PredictionsError(
            f"{name}: rows must have targets, got none in {len(truths)} rows; "
            "give predictions of labelled parts"
        )
    scored = truths
    if label.kind == "multiclass" and label.positive:
        scored = truths[:, positive_places(label)].max(axis=1, keepdims=True)
    both = [column for column in scored.T if {0.0, 1.0} <= set(column.tolist())]
    if not both:
        raise PredictionsError(
            f"{name}: targets must be of two classes or more, got {is_known.sum()} rows of one; "
            "give predictions of more rows"
        )
    if not any(is_choosable(column, folds) for column in both):
        raise PredictionsError(
            f"{name}: each fold's others must hold both classes, or no threshold can be chosen on "
            "them; give predictions of more rows or folds"
        )


def _column(
    name: str,
    target: npt.NDArray[np.float64],
    score: npt.NDArray[np.float64],
    scaled: npt.NDArray[np.float64],
    folds: npt.NDArray[np.int64],
    criteria: Mapping[str, Criterion],
) -> Column:
    made = {of: decide_out_of_fold(target, score, folds, how) for of, how in criteria.items()}
    return Column(
        name=name,
        target=target,
        score=score,
        scaled=scaled,
        decisions={of: decisions for of, (decisions, _) in made.items()},
        thresholds={of: thresholds for of, (_, thresholds) in made.items()},
    )


def _of_point(point: Point) -> str:
    return f"specificity of {point.name}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
