"""Tables for people: what a run or an ensemble scored, fold by fold. Text only, no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipeline.predictions import Predictions, positive_places
from trainer.metrics import as_text, evaluate, truth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """AUC of each fold and of all rows pooled, and over how many rows."""

    by_fold: dict[int, float]  # -1: of given parts
    precision_by_fold: dict[int, float] = dataclasses.field(default_factory=dict)
    given_parts: tuple[str, ...] = ()  # their names
    pooled: float
    pooled_precision: float
    rows: int  # with a known target
    positives: int
    selected_on: tuple[str, ...] = ()  # the parts that chose weights or rates: not unseen

    @property
    def mean(self) -> float:
        """Over the folds that have an AUC; NaN when none has."""
        return _mean_and_std(self.by_fold)[0]

    @property
    def std(self) -> float:
        """Sample standard deviation over folds; NaN for fewer than two."""
        return _mean_and_std(self.by_fold)[1]


def fold_figures(predictions: Predictions) -> Figures:
    """The figures of a table of predictions; its folds are those in the table."""
    frame, label = predictions.frame, predictions.label
    folds = {
        fold: evaluate(dataclasses.replace(predictions, frame=frame[frame["fold"] == fold]))
        for fold in sorted(frame["fold"].unique().tolist())
    }
    pooled = evaluate(predictions)
    truths = truth(predictions)
    scored = truths[:, positive_places(label)] if label.kind == "multiclass" else truths
    return Figures(
        by_fold={fold: scores["auc"] for fold, scores in folds.items()},
        precision_by_fold={fold: scores["average_precision"] for fold, scores in folds.items()},
        given_parts=tuple(sorted(frame.loc[frame["fold"] < 0, "part"].unique())),
        pooled=pooled["auc"],
        pooled_precision=pooled["average_precision"],
        rows=int((~np.isnan(truths)).any(axis=1).sum()),
        positives=int((scored == 1).any(axis=1).sum()),
        selected_on=tuple(predictions.run.get("selected_on", ())),
    )


def score_table(lines: Mapping[str, Figures]) -> str:
    """A line a member: pooled AUC and average precision, mean and deviation over folds, rows."""
    width = max(len(name) for name in ("", *lines)) + 2
    head = f"{'':{width}}{'AUC pooled':>12}{'fold mean':>12}{'± std':>9}{'AP pooled':>12}"
    text = [head + f"{'rows':>9}{'positive':>10}"]
    for name, figures in lines.items():
        text.append(
            f"{name:{width}}{as_text(figures.pooled):>12}{as_text(figures.mean):>12}"
            f"{as_text(figures.std):>9}{as_text(figures.pooled_precision):>12}"
            f"{figures.rows:>9}{figures.positives:>10}"
        )
    text += [
        f"{name}: {_selected(figures)}" for name, figures in lines.items() if figures.selected_on
    ]
    return "\n".join(text)


def fold_table(figures: Figures) -> str:
    """A line a fold of one run, mean ± deviation, the pooled figure; for given parts one line."""
    pooled = (
        f"AUC {as_text(figures.pooled)}   AP {as_text(figures.pooled_precision)}   "
        f"{figures.rows} rows, {figures.positives} positive"
    )
    if figures.given_parts:
        text = [f"{', '.join(figures.given_parts):10} {pooled}"]
    else:
        text = [
            f"fold {fold:>3}   AUC {as_text(auc)}   "
            f"AP {as_text(figures.precision_by_fold.get(fold, float('nan')))}"
            for fold, auc in figures.by_fold.items()
        ]
        precision, precision_std = _mean_and_std(figures.precision_by_fold)
        text.append(
            f"mean       AUC {as_text(figures.mean)} ± {as_text(figures.std)}   "
            f"AP {as_text(precision)} ± {as_text(precision_std)}   over folds"
        )
        text.append(f"pooled     {pooled}")
    if figures.selected_on:
        text.append(_selected(figures))
    return "\n".join(text)


def _selected(figures: Figures) -> str:
    return (
        f"selected on {', '.join(figures.selected_on)}: these rows chose weights or rates, "
        "so the figures are too high"
    )


def _mean_and_std(by_fold: Mapping[int, float]) -> tuple[float, float]:
    """Of the folds that are not NaN; NaN where there are none, or for the deviation only one."""
    known = [figure for figure in by_fold.values() if not np.isnan(figure)]
    mean = float(np.mean(known)) if known else float("nan")
    return mean, float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
