"""What the trials of a search scored, which is ahead, and by how much: table, JSON and CSV.

The first of N trials is chosen by the rows it is then measured on: some of its lead is luck of
these rows, the more of it the more trials there are. Whatever shows the ranking says so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.align import align
from pipeline.predictions import Predictions
from trainer.intervals import (
    Interval,
    Metric,
    auc,
    average_precision,
    difference_intervals,
)
from trainer.metrics import as_text
from trainer.report import Figures, fold_figures
from trainer.search.trials import Trial

MetricName = Literal["auc", "average_precision"]
METRICS: dict[MetricName, tuple[str, Metric]] = {
    "auc": ("AUC", auc),
    "average_precision": ("AP", average_precision),
}
SEARCH_JSON, SEARCH_CSV = "search.json", "search.csv"
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A trial whose folds are complete."""

    trial: Trial
    figures: Figures
    metric: MetricName
    difference: Interval | None  # to the first of the ranking, paired; None: it is the first
    seconds: float

    @property
    def pooled(self) -> float:
        """Of all rows, what the ranking goes by: the difference's interval is of it as well."""
        figures = self.figures
        return figures.pooled if self.metric == "auc" else figures.pooled_precision

    @property
    def by_fold(self) -> dict[int, float]:
        """NaN for a fold whose rows are of one class."""
        figures = self.figures
        return figures.by_fold if self.metric == "auc" else figures.precision_by_fold

    @property
    def is_pruned(self) -> bool:
        """True when other trials went on to more folds."""
        return len(self.by_fold) < len(self.trial.folds)

    @property
    def mean_and_std(self) -> tuple[float, float]:
        """Over the folds that have a figure; NaN for none, the deviation for fewer than two."""
        known = [figure for figure in self.by_fold.values() if not np.isnan(figure)]
        mean = float(np.mean(known)) if known else float("nan")
        return mean, float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that failed, and why."""

    trial: Trial
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Of a whole search."""

    metric: MetricName
    validation: str  # on what all were measured, such as "folds 0, 1"
    unseen_folds: tuple[int, ...]  # of the records, which validated no trial
    results: tuple[Result, ...]  # the first is ahead
    failures: tuple[Failure, ...]
    unfinished: tuple[Trial, ...]  # left by an earlier search, and not asked for now

    @property
    def keys(self) -> list[str]:
        """Of the recipe, that trials with a result set."""
        return list(dict.fromkeys(key for of in self.results for key in of.trial.combination))

    @property
    def caution(self) -> str:
        """What the ranking is worth."""
        if len(self.results) == 1:
            return f"measured on {self.validation}; no other trial has a result to choose from"
        text = (
            f"selected on {self.validation}: the first of {len(self.results)} trials was chosen by "
            "these rows, so its figure is too high"
        )
        if self.unseen_folds:
            unseen = ",".join(map(str, self.unseen_folds))
            text += f"; train it on --folds {unseen}, which validated no trial, to see its worth"
        if any(result.figures.selected_on for result in self.results):
            text += "; within trials they chose weights or rates as well"
        return text


def rank(
    scored: Sequence[tuple[Trial, Predictions]], metric: MetricName, *, draws: int, seed: int
) -> tuple[Result, ...]:
    """The results by their pooled figure, the highest first, trials without a figure last.

    Trials of fewer folds come after those of more, whatever their figure; they are compared with
    the first on the folds that they have.
    """
    figures = [fold_figures(predictions) for _, predictions in scored]
    results = [
        Result(
            trial=trial,
            figures=of,
            metric=metric,
            difference=None,
            seconds=trial.note().seconds,
        )
        for (trial, _), of in zip(scored, figures, strict=True)
    ]
    order = sorted(
        range(len(results)),
        key=lambda at: (-len(figures[at].by_fold), -np.nan_to_num(results[at].pooled, nan=-1), at),
    )
    name, function = METRICS[metric]
    for at in order[1:]:
        member, first = align(
            [scored[at][1], _of_folds(scored[order[0]][1], figures[at].by_fold)],
            [results[at].trial.folder, results[order[0]].trial.folder],
        )
        differences = difference_intervals(member, first, {name: function}, draws=draws, seed=seed)
        results[at] = dataclasses.replace(results[at], difference=differences[name])
    return tuple(results[at] for at in order)


def result_lines(findings: Findings) -> list[list[str]]:
    """The ranking as cells of text: a head, then a line a trial, the best first."""
    name, _ = METRICS[findings.metric]
    keys = findings.keys
    lines = [["trial", *keys, f"{name} pooled", "fold mean ± std", "folds", "minus the first"]]
    for result in findings.results:
        mean, std = result.mean_and_std
        difference = result.difference
        lines.append(
            [
                f"{result.trial.number:03d}",
                *(result.trial.setting(key) for key in keys),
                as_text(result.pooled),
                f"{as_text(mean)} ± {as_text(std)}",
                str(len(result.by_fold)),
                difference.text(is_difference=True) if difference else "(the first)",
            ]
        )
    return lines


def without_result(findings: Findings) -> list[str]:
    """A line a trial that has no figure, and why."""
    lines = [f"{failure.trial.name} failed: {failure.reason}" for failure in findings.failures]
    return [*lines, *(f"{trial.name} is not finished" for trial in findings.unfinished)]


def result_table(findings: Findings) -> str:
    """The ranking for a terminal, what has no figure, and what the ranking is worth."""
    left = without_result(findings)
    if not findings.results:
        return "\n".join(left)
    lines = result_lines(findings)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*table, *left, findings.caution])


def write_results(folder: str, findings: Findings) -> None:
    """`search.json` and `search.csv`: a line a trial, the ranking first, then who has no figure."""
    lines = [_line(result) for result in findings.results]
    for failure in findings.failures:
        lines.append({**_about(failure.trial, "failed"), "failure": failure.reason})
    lines += [_about(trial, "unfinished") for trial in findings.unfinished]
    about = {
        "schema_version": SCHEMA_VERSION,
        "metric": findings.metric,
        "validation": findings.validation,
        "selected_on": findings.caution,
        "trials": lines,
    }
    text = json.dumps(about, indent=1, allow_nan=False) + "\n"
    storage.write_text(storage.join(folder, SEARCH_JSON), text)
    table = pd.DataFrame([_flat(line) for line in lines])
    storage.write_text(storage.join(folder, SEARCH_CSV), table.to_csv(index=False))


def _line(result: Result) -> dict[str, Any]:
    mean, std = result.mean_and_std
    difference = result.difference
    return {
        **_about(result.trial, "pruned" if result.is_pruned else "done"),
        "pooled": _number(result.pooled),
        "mean": _number(mean),
        "std": _number(std),
        "by_fold": {str(fold): _number(figure) for fold, figure in result.by_fold.items()},
        "auc": _number(result.figures.pooled),
        "average_precision": _number(result.figures.pooled_precision),
        "difference": _number(difference.figure) if difference else None,
        "difference_low": _number(difference.low) if difference else None,
        "difference_high": _number(difference.high) if difference else None,
        "rows": result.figures.rows,
        "positives": result.figures.positives,
        "seconds": result.seconds,
    }


def _about(trial: Trial, state: str) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "folder": trial.place,
        "state": state,
        "overrides": trial.combination,
    }


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """A line of `search.csv`: a column a key of the recipe, a column a fold."""
    named = {key: line[key] for key in ("trial", "folder", "state")} | line["overrides"]
    figures = {key: value for key, value in line.items() if not isinstance(value, dict)}
    by_fold = {f"fold{fold}": figure for fold, figure in line.get("by_fold", {}).items()}
    return {**named, **figures, **by_fold}


def _of_folds(predictions: Predictions, folds: Collection[int]) -> Predictions:
    frame = predictions.frame
    frame = frame[frame["fold"].isin([*folds])].reset_index(drop=True)
    return dataclasses.replace(predictions, frame=frame)


def _number(figure: float) -> float | None:
    return None if np.isnan(figure) else figure
