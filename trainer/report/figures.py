"""The figures of a report, each with what the draws of groups make of it.

All figures of one table come from the same draws (`trainer.intervals.draw_counts`), and two aligned
tables from the same again, so that a difference of theirs is paired. What is chosen (thresholds,
temperatures) stays as it was chosen: a draw asks what other patients would do to these decisions.
Called by `trainer.report.findings` and `trainer.report.subgroups`. numpy alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.calibration import BINS, bin_of
from trainer.intervals import Ranking, auc, average_precision, draw_counts
from trainer.thresholds import RATES

Floats = npt.NDArray[np.float64]
Drawn = dict[str, Floats]  # by name, float64 [1 + draws]: the figure of the table, then of draws

_BRIER, _ROWS = BINS, BINS + 1  # places behind the bins' surplus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One score of every row, what it should be, and what was made of it out of fold."""

    name: str
    target: Floats  # [N] of 0, 1 and NaN: unknown
    score: Floats  # [N] in [0, 1]
    scaled: Floats  # [N], after temperature scaling
    decisions: Mapping[str, npt.NDArray[np.bool_]]  # criterion -> [N], taken for positive
    thresholds: Mapping[str, Mapping[int, float]]  # criterion -> fold -> its threshold

    def of_rows(self, is_in: npt.NDArray[np.bool_]) -> Column:
        """Some of its rows; the decisions stay what they are."""
        decisions = {name: made[is_in] for name, made in self.decisions.items()}
        values = {name: getattr(self, name)[is_in] for name in ("target", "score", "scaled")}
        return dataclasses.replace(self, **values, decisions=decisions)

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """[N]: whether the row has a target."""
        return np.asarray(~np.isnan(self.target))

    @property
    def is_positive(self) -> npt.NDArray[np.bool_]:
        """[N], False where unknown."""
        return np.asarray(self.target == 1)


def drawn_figures(
    columns: Sequence[Column], groups: Sequence[str], *, draws: int, seed: int
) -> Drawn:
    """`AUC`, `AP`, `Brier`, `ECE`, these two `scaled`, and `RATE, CRITERION`; means over columns.

    `groups` [N] names each row's. A figure that rows or a draw do not give is NaN. A draw repeats
    rows and so has less to tell apart in a bin: the ECE of draws lies above that of the table.
    """
    is_known = np.any([column.is_known for column in columns], axis=0)
    # In order of name: the draws do not depend on the order of the rows.
    numbers, names = pd.factorize(pd.Series(groups).where(is_known), sort=True)
    if not len(names):
        return {}
    everything = np.ones(len(names))
    counts = itertools.chain([everything], draw_counts(len(names), draws, seed))
    rankings, sums = zip(
        *(_prepared(column, numbers, len(names)) for column in columns), strict=True
    )
    areas = np.empty((2, len(columns), 1 + draws))
    totals = [np.empty((1 + draws, of_column.shape[1])) for of_column in sums]
    for draw, of_draw in enumerate(counts):
        for place, ranking in enumerate(rankings):
            curve = ranking.curve(of_draw)
            areas[:, place, draw] = auc(*curve), average_precision(*curve)
            totals[place][draw] = of_draw @ sums[place]
    each = [_from_totals(column, of) for column, of in zip(columns, totals, strict=True)]
    linear = {name: np.mean([of[name] for of in each], axis=0) for name in each[0]}
    return {"AUC": areas[0].mean(axis=0), "AP": areas[1].mean(axis=0), **linear}


def unit_of(columns: Sequence[Column], groups: Sequence[str]) -> str:
    """What a draw takes: `group`, or `row` where each row is its own."""
    is_known = np.any([column.is_known for column in columns], axis=0)
    drawn = {name for name, is_in in zip(groups, is_known, strict=True) if is_in}
    return "row" if len(drawn) == is_known.sum() else "group"


def _prepared(column: Column, numbers: npt.NDArray[np.intp], groups: int) -> tuple[Ranking, Floats]:
    """The column sorted, and float64 [groups, K]: what each group adds to every sum of a draw."""
    known = column.is_known
    is_positive, target, of_group = column.is_positive[known], column.target[known], numbers[known]
    parts = [_calibration_sums(target, prob[known]) for prob in (column.score, column.scaled)]
    for made in column.decisions.values():
        taken = made[known]
        outcomes = [
            taken & is_positive, taken & ~is_positive, ~taken & is_positive, ~taken & ~is_positive,
        ]  # fmt: skip
        parts.append(np.stack(outcomes, axis=1).astype(np.float64))
    rows = np.concatenate(parts, axis=1)
    by_group = np.zeros((groups, rows.shape[1]))
    np.add.at(by_group, of_group, rows)
    return Ranking(is_positive, column.score[known], of_group), by_group


def _calibration_sums(target: Floats, prob: Floats) -> Floats:
    """float64 [N, BINS + 2]: of its bin's surplus, of the Brier sum, of the rows."""
    sums = np.zeros((len(target), BINS + 2))
    sums[np.arange(len(target)), bin_of(prob)] = prob - target
    sums[:, _BRIER] = (prob - target) ** 2
    sums[:, _ROWS] = 1
    return sums


def _from_totals(column: Column, totals: Floats) -> Drawn:
    """[1 + draws, K], in the order of `_prepared`."""
    drawn = {}
    for place, suffix in enumerate(("", " scaled")):
        of_probs = totals[:, place * (BINS + 2) :]
        rows = np.where(of_probs[:, _ROWS] > 0, of_probs[:, _ROWS], np.nan)
        drawn[f"Brier{suffix}"] = of_probs[:, _BRIER] / rows
        drawn[f"ECE{suffix}"] = np.abs(of_probs[:, :BINS]).sum(axis=1) / rows
    for place, criterion in enumerate(column.decisions):
        first = 2 * (BINS + 2) + 4 * place
        outcomes = totals[:, first : first + 4].T
        for name, rate in RATES.items():
            drawn[f"{name}, {criterion}"] = rate(*outcomes)
    return drawn
