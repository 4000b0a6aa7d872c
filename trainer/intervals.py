"""How far a figure may be trusted: bootstrap intervals of AUC, precision and sensitivity.

Groups (patients, lesions) are drawn, not rows: images of one patient are alike, and rows drawn as
if each were a witness of its own would promise too much. `trainer.baselines` and `trainer.compare`
print what `intervals` and `difference_intervals` give; reports may. numpy alone.

An interval says what other patients would do to the figure of these very predictions. What another
seed of the training would do to it is not in it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.predictions import Predictions, output_classes, positive_places, scores
from trainer.metrics import truth

Floats = npt.NDArray[np.float64]
# Of the rows scored above each threshold the positives and the negatives, counted as often as they
# were drawn: float64 [T] each, thresholds falling, from (0, 0) to all of them.
Metric = Callable[[Floats, Floats], float]

DRAWS = 2000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the percentile interval of its draws; NaN where rows or draws give none."""

    figure: float
    low: float
    high: float
    level: float
    draws: int  # that gave a figure
    skipped: int  # draws that gave none: without positives, say
    unit: str  # what was drawn: "group", or "row" where each row is its own

    def text(self, *, is_difference: bool = False) -> str:
        """`0.848 (95 % 0.821–0.873 by group)`, a difference with signs; `n/a` without a figure."""
        if np.isnan(self.figure):
            return "n/a"
        form, dash = ("+.3f", " to ") if is_difference else (".3f", "–")
        skipped = f", {self.skipped} draws skipped" if self.skipped else ""
        return (
            f"{self.figure:{form}} ({100 * self.level:g} % {self.low:{form}}{dash}"
            f"{self.high:{form}} by {self.unit}{skipped})"
        )


def auc(found: Floats, alarms: Floats) -> float:
    """The chance that a positive scores above a negative, ties half: the area by trapezoids."""
    if not found[-1] or not alarms[-1]:
        return float("nan")
    area = np.diff(alarms) @ (found[1:] + found[:-1]) / 2
    return float(area / (found[-1] * alarms[-1]))


def average_precision(found: Floats, alarms: Floats) -> float:
    """The precision averaged over the positives, without interpolation, in [0, 1]."""
    if not found[-1]:
        return float("nan")
    taken = found + alarms
    # A draw may hold none of the rows that score highest: nothing is taken and nothing found.
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    return float(np.diff(found) @ precision[1:] / found[-1])


def sensitivity_at(specificity: float) -> Metric:
    """The largest share of positives found by a threshold of at least this specificity.

    Thresholds lie between scores that occur; nothing is interpolated.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"intervals: specificity must be in [0, 1], got {specificity}")

    def sensitivity(found: Floats, alarms: Floats) -> float:
        if not found[-1] or not alarms[-1]:
            return float("nan")
        # 0.1 of 10 negatives is one of them, though 1 - 0.9 is a little less than 0.1.
        allowed = (1 - specificity + 1e-9) * alarms[-1]
        last = np.searchsorted(alarms, allowed, side="right") - 1
        return float(found[last] / found[-1])

    return sensitivity


METRICS: Mapping[str, Metric] = {
    "AUC": auc,
    "AP": average_precision,
    "sens@0.6": sensitivity_at(0.6),  # the specificity of dermatologists, who find 74 %
    "sens@0.9": sensitivity_at(0.9),
}


class Ranking:
    """The rows of one score, sorted once: a draw then costs a sum over them.

    Between two scores that positives have, negatives count as one threshold: neither an area nor a
    precision at a positive can tell them apart, and positives are few.
    """

    def __init__(
        self, is_positive: npt.NDArray[np.bool_], score: Floats, group: npt.NDArray[np.intp]
    ) -> None:
        """bool [N], float64 [N] and the number of each row's group, int [N]; N is 1 or more."""
        order = np.argsort(-score, kind="stable")
        score, self._group = score[order], group[order]
        is_first = np.append(True, np.diff(score) != 0)  # of its ties
        has_positive = np.bincount(np.cumsum(is_first) - 1, is_positive[order]) > 0
        is_apart = has_positive | np.append(True, has_positive[:-1])
        self._starts = np.flatnonzero(is_first)[is_apart]
        places = np.flatnonzero(is_positive[order])
        self._positive_group = self._group[places]
        self._positive_threshold = np.searchsorted(self._starts, places, side="right") - 1

    def curve(self, counts: Floats) -> tuple[Floats, Floats]:
        """float64 [groups], how often each is in the draw -> what a `Metric` takes."""
        taken = np.add.reduceat(counts[self._group], self._starts)
        found = np.bincount(
            self._positive_threshold, counts[self._positive_group], minlength=len(taken)
        )
        running = np.zeros((2, 1 + len(taken)))
        np.cumsum([found, taken - found], axis=1, out=running[:, 1:])
        return running[0], running[1]


def draw_counts(groups: int, draws: int, seed: int) -> Iterator[Floats]:
    """For each draw how often each group is in it, float64 [groups].

    As many groups as there are, with replacement, and without stratification: a group may hold both
    classes, and another sample of patients would not have the same number of positives either.
    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = rng.integers(groups, size=groups)
        yield np.bincount(drawn, minlength=groups).astype(np.float64)


def intervals(
    predictions: Predictions,
    metrics: Mapping[str, Metric] = METRICS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Each metric of all rows with a known target, pooled over folds, with its interval.

    The score is that of `trainer.metrics.evaluate`; without a single one, the mean over classes,
    and a draw that lacks a class which the table has is skipped.
    """
    figures, unit = _figures([predictions], metrics, draws, seed)
    return {name: interval_of(figures[0, place], level, unit) for place, name in enumerate(metrics)}


def difference_intervals(
    first: Predictions,
    second: Predictions,
    metrics: Mapping[str, Metric] = METRICS,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """First minus second, both on the same draws of the same rows: a paired comparison.

    Both as `pipeline.align.align` gives them: it refuses other ids, targets or folds.
    """
    assert first.frame["id"].tolist() == second.frame["id"].tolist(), "align them first"
    figures, unit = _figures([first, second], metrics, draws, seed)
    differences = figures[0] - figures[1]
    return {name: interval_of(differences[at], level, unit) for at, name in enumerate(metrics)}


def scored_columns(predictions: Predictions) -> list[tuple[Floats, Floats]]:
    """The target (0, 1, NaN for unknown) and the score of each row, float64 [N] both.

    One pair where a row has one score (`pipeline.predictions.scores`), else a pair a class that has
    rows both within and without.
    """
    label, truths = predictions.label, truth(predictions)
    if label.kind == "multiclass" and label.positive:
        is_positive = truths[:, positive_places(label)].max(axis=1)  # NaN stays NaN
        return [(is_positive, scores(predictions))]
    columns = list(zip(truths.T, predictions.probs.T, strict=True))
    if len(output_classes(label)) == 1:
        return columns
    return [both for both in columns if {0.0, 1.0} <= set(both[0])]


def _figures(
    members: Sequence[Predictions], metrics: Mapping[str, Metric], draws: int, seed: int
) -> tuple[Floats, str]:
    """float64 [members, metrics, 1 + draws], the table's own figures first; and what was drawn."""
    if draws < 1:
        raise ValueError(f"intervals: draws must be 1 or more, got {draws}")
    columns = [scored_columns(member) for member in members]
    is_known = np.zeros(len(members[0].frame), bool)
    for target, _ in columns[0]:
        is_known |= ~np.isnan(target)
    # In order of name: the draws do not depend on the order of the rows.
    group, names = pd.factorize(members[0].frame["group"].where(is_known), sort=True)
    rankings = [[_ranking(*both, group) for both in of_member] for of_member in columns]
    figures = np.full((len(members), len(metrics), 1 + draws), np.nan)
    if len(names):
        everything = np.ones(len(names))
        all_counts = itertools.chain([everything], draw_counts(len(names), draws, seed))
        for draw, counts in enumerate(all_counts):
            for member, of_member in enumerate(rankings):
                curves = [ranking.curve(counts) for ranking in of_member]
                for place, metric in enumerate(metrics.values()):
                    figures[member, place, draw] = np.mean([metric(*curve) for curve in curves])
    return figures, "row" if len(names) == is_known.sum() else "group"


def _ranking(target: Floats, score: Floats, group: npt.NDArray[np.intp]) -> Ranking:
    is_known = ~np.isnan(target)
    return Ranking(target[is_known] == 1, score[is_known], group[is_known])


def interval_of(figures: Floats, level: float, unit: str) -> Interval:
    """float64 [1 + draws], the table's own figure first -> it, and the percentiles of its draws."""
    if not 0 < level < 1:
        raise ValueError(f"intervals: level must be in (0, 1), got {level}")
    figure, drawn = float(figures[0]), figures[1:]
    known = drawn[~np.isnan(drawn)]
    low, high = float("nan"), float("nan")
    if len(known):
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(
        figure=figure,
        low=low,
        high=high,
        level=level,
        draws=len(known),
        skipped=len(drawn) - len(known),
        unit=unit,
    )
