"""Scores combined predictions of the same rows again and again, by the metric that is asked for.

A metric ranks (`auc`, `average_precision`, and `sensitivity@0.9`, the point of the scored rows' own
ROC curve at that specificity) or decides (`f1_macro`, `f2`, `balanced_accuracy`). What decides
takes the class of the highest score where a label is multiclass (except for `f2`), and else needs a
threshold, which is chosen like everything else: by the rows that choose. The score is the one of
`pipeline.predictions.scores`; without a single one the metric is the mean over classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import SettingsError
from pipeline.predictions import Predictions, PredictionsError, positive_places
from pipeline.settings import nearest
from trainer import intervals
from trainer.ensemble.counting import Column
from trainer.metrics import truth

Floats = npt.NDArray[np.float64]
# True and false positives, positives and negatives, of any shape -> the figure; NaN for 0 of 0.
Decision = Callable[[Floats, Floats, Floats, Floats], Floats]

AGGREGATES = ("group:mean", "group:max")


def f_beta(beta: float) -> Decision:
    """The harmonic mean of precision and recall, recall weighing `beta` squared times as much."""

    def figure(hits: Floats, alarms: Floats, positives: Floats, negatives: Floats) -> Floats:
        return (1 + beta**2) * hits / (beta**2 * positives + hits + alarms)

    return figure


def f1_of_both(hits: Floats, alarms: Floats, positives: Floats, negatives: Floats) -> Floats:
    """The mean of the F1 of the positive class and of the negative one."""
    f1 = f_beta(1)
    of_negatives = f1(negatives - alarms, positives - hits, negatives, positives)
    return (f1(hits, alarms, positives, negatives) + of_negatives) / 2


def balanced(hits: Floats, alarms: Floats, positives: Floats, negatives: Floats) -> Floats:
    """The mean of sensitivity and specificity."""
    return (hits / positives + (negatives - alarms) / negatives) / 2


def recall(hits: Floats, alarms: Floats, positives: Floats, negatives: Floats) -> Floats:
    """The share of the positives found; over classes its mean is the balanced accuracy."""
    return hits / positives


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure by its name: a ranking's, or a decision's."""

    name: str
    ranking: intervals.Metric | None = None
    decision: Decision | None = None  # with a threshold a column
    by_class: Decision | None = None  # of the class with the highest score, mean over classes
    is_single: bool = True  # takes the one score of a label that has one


def metric_named(name: str, kind: str) -> Metric:
    """The metric of a name for a kind of label.

    Raises:
      SettingsError: there is none, or its specificity is not in [0, 1].
    """
    if name.startswith("sensitivity@"):
        try:
            ranking = intervals.sensitivity_at(float(name.partition("@")[2]))
        except ValueError as error:
            raise SettingsError(
                f"--metric: the specificity must be in [0, 1], got {name!r}; try sensitivity@0.9"
            ) from error
        return Metric(name=name, ranking=ranking)
    is_multiclass = kind == "multiclass"
    metrics: Mapping[str, Metric] = {
        "auc": Metric(name="auc", ranking=intervals.auc),
        "average_precision": Metric(name=name, ranking=intervals.average_precision),
        "f2": Metric(name="f2", decision=f_beta(2)),
        "f1_macro": Metric(
            name=name,
            decision=f1_of_both if kind == "binary" else f_beta(1),
            by_class=f_beta(1) if is_multiclass else None,
            is_single=not is_multiclass,
        ),
        "balanced_accuracy": Metric(
            name=name,
            decision=balanced,
            by_class=recall if is_multiclass else None,
            is_single=not is_multiclass,
        ),
    }
    if name not in metrics:
        known = nearest(name, [*metrics, "sensitivity@0.9"])
        raise SettingsError(f"--metric: unknown metric {name!r}; {known}")
    return metrics[name]


class Scorer:
    """One metric of the rows in use, or of their groups; `folds` are those that they are in."""

    def __init__(
        self,
        first: Predictions,
        is_used: npt.NDArray[np.bool_],
        metric: Metric,
        aggregate: str | None = None,
    ) -> None:
        """The keys and targets of `first`; rows without a known target are left out.

        Raises:
          PredictionsError: a group to be scored as one is in several folds, or has several classes
            where the metric decides between them.
        """
        label, truths = first.label, truth(first)
        self.metric = metric
        self._places: list[int] | None = None
        if metric.is_single and label.kind == "multiclass" and label.positive:
            self._places = positive_places(label)
            truths = truths[:, self._places].max(axis=1, keepdims=True)  # NaN stays NaN
        self.rows = np.flatnonzero(is_used & (~np.isnan(truths)).any(axis=1))
        truths, fold = truths[self.rows], first.frame["fold"].to_numpy()[self.rows]
        self._groups: _Groups | None = None
        if aggregate:
            self._groups = _Groups(first.frame["group"].iloc[self.rows], aggregate)
            truths, fold = self._groups.truths(truths), self._groups.folds(fold)
            if metric.by_class and (truths.sum(axis=1) > 1).any():
                raise PredictionsError(
                    f"--aggregate: each group must have one class for {metric.name}, got "
                    f"{(truths.sum(axis=1) > 1).sum()} groups of several; choose another metric"
                )
        self.folds, self._fold = np.unique(fold, return_inverse=True)
        self._truths = truths
        self._columns = [Column(column, self._fold, len(self.folds)) for column in truths.T]

    def scores(self, probs: Floats) -> Floats:
        """float64 [N, L] of all rows -> [C, U], a line a column that is scored, of the units."""
        return self.of_units(self.columns(probs))

    def columns(self, probs: Floats) -> Floats:
        """float64 [N, L] -> [C, rows in use]: linear in the probabilities, so that sums of these
        are those of sums.
        """
        used = probs[self.rows]
        if self._places is not None:
            used = used[:, self._places].sum(axis=1, keepdims=True)
        return np.ascontiguousarray(used.T)

    def of_units(self, columns: Floats) -> Floats:
        """float64 [C, rows in use] -> [C, U]: the groups' means or maxima, where asked for."""
        return columns if self._groups is None else self._groups.scores(columns)

    def chosen_by(self, scores: Floats) -> Floats:
        """float64 [C, U] -> [1 + folds], what a search raises: by all folds, then without each.

        A decision's figure is that of its best threshold.
        """
        sets = np.vstack([np.ones(len(self.folds), bool), ~np.eye(len(self.folds), dtype=bool)])
        if self.metric.by_class:
            return self._of_confusion(sets @ self._confusion(scores).reshape(len(self.folds), -1))
        figures = np.empty((len(scores), len(sets)))
        for place, (column, score) in enumerate(zip(self._columns, scores, strict=True)):
            ranked = column.rank(score)
            if self.metric.name == "auc":
                figures[place] = ranked.aucs()
                continue
            for number, is_in in enumerate(sets):
                found, alarms, _ = ranked.curve(is_in)
                figures[place, number] = self._best(found, alarms)[0]
        return figures[0] if len(figures) == 1 else mean_of_known(figures)

    def thresholds(self, scores: Floats, without: int | None) -> tuple[float, ...]:
        """The best threshold of each column, chosen by all folds but the one at that place.

        None where the metric needs none. NaN in a column that lacks a class.
        """
        if self.metric.ranking or self.metric.by_class:
            return ()
        is_in = np.arange(len(self.folds)) != (-1 if without is None else without)
        best = []
        for column, score in zip(self._columns, scores, strict=True):
            found, alarms, thresholds = column.rank(score).curve(is_in)
            figure, place = self._best(found, alarms)
            best.append(float("nan") if np.isnan(figure) else float(thresholds[place]))
        return tuple(best)

    def figure(
        self, scores: Floats, thresholds: Floats | None = None, fold: int | None = None
    ) -> float:
        """float64 [C, U] -> the figure of all units, or of the fold at that place; NaN without one.

        `thresholds` float64 [C, folds] are for what decides: each fold's as the others chose it.
        """
        is_in = np.ones(len(self.folds), bool)
        if fold is not None:
            is_in = np.arange(len(self.folds)) == fold
        if self.metric.by_class:
            return float(self._of_confusion(self._confusion(scores)[is_in].sum(axis=0).ravel())[0])
        figures = []
        for place, (column, score) in enumerate(zip(self._columns, scores, strict=True)):
            if self.metric.ranking:
                figures.append(self.metric.ranking(*column.rank(score).curve(is_in)[:2]))
            else:
                assert thresholds is not None
                is_kept = is_in[self._fold] & ~np.isnan(thresholds[place][self._fold])
                is_true = self._truths[is_kept, place] == 1
                is_false = self._truths[is_kept, place] == 0
                is_taken = (score >= thresholds[place][self._fold])[is_kept]
                counts = (is_taken & is_true, is_taken & is_false, is_true, is_false)
                figures.append(self._decided(*(np.array([float(c.sum())]) for c in counts))[0])
        return float(mean_of_known(np.array(figures)[:, None])[0])

    def _best(self, found: Floats, alarms: Floats) -> tuple[float, int]:
        """The figure of a curve, and for what decides the point that gives it."""
        if self.metric.ranking:
            return self.metric.ranking(found, alarms), 0
        figures = self._decided(found, alarms, found[-1], alarms[-1])
        figures[found == 0] = -np.inf if found[-1] else np.nan  # a threshold above all is none
        place = int(figures.argmax())
        return float(figures[place]), place

    def _decided(
        self, hits: Floats, alarms: Floats, positives: Floats, negatives: Floats
    ) -> Floats:
        assert self.metric.decision
        with np.errstate(invalid="ignore", divide="ignore"):
            figures = self.metric.decision(hits, alarms, positives, negatives)
        return np.where((positives > 0) & (negatives > 0), figures, np.nan)

    def _confusion(self, scores: Floats) -> Floats:
        """Float64 [C, U] -> [folds, C (true), C (of the highest score)]."""
        classes = len(scores)
        cell = (self._fold * classes + self._truths.argmax(axis=1)) * classes
        counts = np.bincount(
            cell + scores.argmax(axis=0), minlength=len(self.folds) * classes * classes
        )
        return counts.reshape(-1, classes, classes).astype(np.float64)

    def _of_confusion(self, confusion: Floats) -> Floats:
        """Float64 [..., C * C] -> [...]; classes neither there nor taken are left out."""
        assert self.metric.by_class
        classes = self._truths.shape[1]
        matrix = confusion.reshape(-1, classes, classes)
        hits, positives = matrix.diagonal(axis1=1, axis2=2), matrix.sum(axis=2)
        alarms = matrix.sum(axis=1) - hits
        negatives = matrix.sum(axis=(1, 2))[:, None] - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_of_known(self.metric.by_class(hits, alarms, positives, negatives).T)


class _Groups:
    """Scores and truths of whole groups of rows."""

    def __init__(self, group: pd.Series, aggregate: str) -> None:
        codes, names = pd.factorize(group)
        self._order = np.argsort(codes, kind="stable")
        self._sizes = np.bincount(codes, minlength=len(names))
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._is_max = aggregate == "group:max"

    def scores(self, columns: Floats) -> Floats:
        ordered = columns[:, self._order]
        if self._is_max:
            return np.maximum.reduceat(ordered, self._starts, axis=1)
        return np.add.reduceat(ordered, self._starts, axis=1) / self._sizes

    def truths(self, truths: Floats) -> Floats:
        """float64 [rows, C] -> [groups, C]: 1 where any row is, NaN where none is known."""
        return np.fmax.reduceat(truths[self._order], self._starts, axis=0)

    def folds(self, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64 [rows] -> [groups].

        Raises:
          PredictionsError: a group is in several.
        """
        ordered = fold[self._order]
        first = ordered[self._starts]
        apart = (np.maximum.reduceat(ordered, self._starts) != first) | (
            np.minimum.reduceat(ordered, self._starts) != first
        )
        if apart.any():
            raise PredictionsError(
                f"--aggregate: a group must be in one fold, got {apart.sum()} groups in several; "
                "make the records with the group's column named in the dataset spec"
            )
        return first


def mean_of_known(figures: Floats) -> Floats:
    """float64 [C, ...] -> [...], the mean over what is not NaN; NaN where all are."""
    is_known = ~np.isnan(figures)
    with np.errstate(invalid="ignore"):
        return np.where(is_known, figures, 0).sum(axis=0) / is_known.sum(axis=0)
