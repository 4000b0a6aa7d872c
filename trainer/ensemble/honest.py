"""What an ensemble is worth on rows that did not choose it: nested over folds, or on other parts.

Subset, weights, stacked coefficients, rank and z-score references, temperature and threshold are
all chosen by k-1 folds and scored on the other, in turn. Only that figure is a result; the one on
the rows that chose is kept beside it, to show how much choosing flatters. `trainer.ensemble.run`
calls `judge` for the ensemble and, with the same metric, for each member alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.combine import Ensemble
from pipeline.errors import SettingsError
from pipeline.predictions import Predictions
from pipeline.settings import nearest
from trainer.ensemble.methods import CHOOSES_NOTHING, Choice, fit, stored
from trainer.ensemble.scoring import Floats, Metric, Scorer, metric_named
from trainer.ensemble.subsets import MOST_MEMBERS, figures_of_subsets
from trainer.metrics import as_text, truth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is to be combined how, and which rows may choose."""

    method: str = "mean"
    metric: str = "auc"
    aggregate: str | None = None  # group:mean | group:max
    select_on: str | None = None  # the part that chooses; none: folds choose for one another
    weights: tuple[float, ...] | None = None  # given, for `weighted`
    is_calibrated: bool = False  # with a temperature

    def chooses(self, metric: Metric) -> bool:
        """True where rows decide anything, so that figures on them would be too high."""
        needs_threshold = metric.decision is not None and metric.by_class is None
        is_given = self.method in CHOOSES_NOTHING or self.weights is not None
        return not is_given or needs_threshold or self.is_calibrated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """An ensemble of all rows that may choose, and what unseen rows say of its like."""

    final: Ensemble
    by_fold: Mapping[int, Ensemble]  # what the other folds chose for each; empty: `final` for all
    probs: Floats  # float64 [N, L]; of a fold's rows by what the others chose
    is_unseen: npt.NDArray[np.bool_]  # the rows scored; none chose what scored it
    on_chosen: float  # by the rows that chose; NaN where nothing was chosen
    figures: Mapping[int, float]  # of unseen rows by fold, -1 outside folds
    pooled: float

    @property
    def mean(self) -> float:
        """Over the folds that have a figure; NaN when none has."""
        known = self._known()
        return float(np.mean(known)) if known else float("nan")

    @property
    def std(self) -> float:
        """Sample standard deviation over folds; NaN for fewer than two."""
        known = self._known()
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")

    def _known(self) -> list[float]:
        return [figure for figure in self.figures.values() if not np.isnan(figure)]


def judge(members: Sequence[Predictions], names: Sequence[str], recipe: Recipe) -> Judged:
    """Chooses and scores by the recipe; members as `pipeline.align.align` gives them.

    Raises:
      SettingsError: nothing can be chosen honestly: one fold, and no part to choose on.
      DataError: the rows that choose lack a class, or groups do not fit the folds.
    """
    first = members[0]
    metric = metric_named(recipe.metric, first.label.kind)
    chooses = recipe.chooses(metric)
    is_choosing = _choosing_rows(first, recipe, chooses)
    scorer = Scorer(first, is_choosing, metric, recipe.aggregate)
    all_probs = [member.probs for member in members]
    subsets = None
    if recipe.method == "optimal":
        if len(members) > MOST_MEMBERS:
            raise SettingsError(
                f"--method: optimal tries all subsets of {MOST_MEMBERS} members or fewer, got "
                f"{len(members)}; leave some out, or take --method greedy"
            )
        subsets = figures_of_subsets(all_probs, scorer)
    everything = Choice(
        label=first.label,
        members=all_probs,
        truths=truth(first),
        is_in=is_choosing,
        scorer=scorer,
        subsets=subsets,
        given_weights=recipe.weights,
    )
    by_name = dict(zip(names, all_probs, strict=True))
    final = fit(recipe.method, everything, names, is_calibrated=recipe.is_calibrated)
    probs = final.combine(by_name)
    on_chosen, by_fold = float("nan"), {}
    if chooses:
        scores = scorer.scores(stored(probs))
        on_chosen = scorer.figure(scores, _thresholds([final] * len(scorer.folds)))
    if recipe.select_on is not None:
        is_unseen = ~is_choosing
        judging = Scorer(first, is_unseen, metric, recipe.aggregate)
    else:
        is_unseen, judging = is_choosing, scorer
        if chooses:
            for place, fold in enumerate(scorer.folds.tolist()):
                is_fold = (first.frame["fold"] == fold).to_numpy()
                others = dataclasses.replace(
                    everything, is_in=is_choosing & ~is_fold, without=place
                )
                by_fold[fold] = fit(
                    recipe.method, others, names, is_calibrated=recipe.is_calibrated
                )
                of_fold = {name: values[is_fold] for name, values in by_name.items()}
                probs[is_fold] = by_fold[fold].combine(of_fold)
    scores = judging.scores(stored(probs))
    thresholds = _thresholds([by_fold.get(fold, final) for fold in judging.folds.tolist()])
    return Judged(
        final=final,
        by_fold=by_fold,
        probs=probs,
        is_unseen=is_unseen,
        on_chosen=on_chosen,
        figures={
            fold: judging.figure(scores, thresholds, place)
            for place, fold in enumerate(judging.folds.tolist())
        },
        pooled=judging.figure(scores, thresholds),
    )


def honest_table(lines: Mapping[str, Judged], metric: str, selected_on: Sequence[str] = ()) -> str:
    """A line a member: the figure on what chose it, then the unseen ones; the last is the result.

    `–` where nothing was chosen. `selected_on` are the parts that chose weights or rates while the
    members were trained: nesting cannot take that back.
    """
    result = list(lines.values())[-1]
    unseen = f"{'nested' if result.by_fold else 'unseen'}: fold mean"
    width = max(len(name) for name in (metric, *lines)) + 2
    text = [f"{metric:{width}}{'on what chose it':>18}{unseen:>20}{'± std':>9}{'pooled':>9}"]
    for name, judged in lines.items():
        chosen = "–" if np.isnan(judged.on_chosen) else as_text(judged.on_chosen)
        text.append(
            f"{name:{width}}{chosen:>18}{as_text(judged.mean):>20}{as_text(judged.std):>9}"
            f"{as_text(judged.pooled):>9}"
        )
    rows = "of rows that chose nothing of what scored them"
    if selected_on:
        rows = f"too high: {', '.join(selected_on)} chose while members were trained"
    text.append(f"result: {metric} {as_text(result.pooled)}, {rows}")
    return "\n".join(text)


def _choosing_rows(first: Predictions, recipe: Recipe, chooses: bool) -> npt.NDArray[np.bool_]:
    frame = first.frame
    if recipe.select_on is not None:
        is_choosing = (frame["part"] == recipe.select_on).to_numpy()
        if not is_choosing.any():
            raise SettingsError(
                f"--select_on: unknown part {recipe.select_on!r}; "
                f"{nearest(recipe.select_on, frame['part'].unique())}"
            )
        return is_choosing
    if not chooses:
        return np.ones(len(frame), bool)
    is_choosing = (frame["fold"] >= 0).to_numpy()
    folds = frame["fold"][is_choosing].nunique()
    if folds < 2:
        raise SettingsError(
            f"--select_on: {recipe.method} by {recipe.metric} chooses, which takes two folds or "
            f"more, got {folds}; name the part whose rows may choose, such as --select_on val"
        )
    return is_choosing


def _thresholds(ensembles: Sequence[Ensemble]) -> Floats:
    """float64 [columns, folds]; without a column where nothing was decided."""
    return np.array([ensemble.thresholds for ensemble in ensembles]).T
