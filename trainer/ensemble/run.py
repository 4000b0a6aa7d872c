"""Reads the members, combines them, and writes what `python -m trainer.ensemble` promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.align import align
from pipeline.combine import Ensemble, ensemble_to_json, logits_of
from pipeline.errors import DataError, SettingsError
from pipeline.predictions import (
    Predictions,
    make_predictions,
    predictions_file,
    read_predictions,
    write_predictions,
)
from pipeline.settings import nearest
from trainer.ensemble.honest import Judged, Recipe, honest_table, judge
from trainer.ensemble.methods import METHODS
from trainer.ensemble.scoring import AGGREGATES
from trainer.ensemble.submission import COLUMNS, check_columns, write_submission
from trainer.metrics import as_json
from trainer.report import fold_figures, score_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """A CSV of one part's scores, for a competition's server."""

    file: str
    apply_to: tuple[str, ...] = ()  # the members' predictions of other rows; none: their own file
    part: str = "test"  # of the members' own file
    columns: tuple[str, ...] = COLUMNS


def ensemble(
    runs: Sequence[str],
    recipe: Recipe,
    output: str,
    *,
    json_file: str | None = None,
    submission: Submission | None = None,
) -> Judged:
    """Aligns the runs' predictions, combines them by the recipe, writes the files and prints.

    Raises:
      SettingsError: a flag is at fault, told before any file is read where that is possible.
      DataError: a file is, or the members do not fit together.
    """
    _check(runs, recipe, output)
    members = align([read_predictions(run) for run in runs], runs)
    judged = judge(members, runs, recipe)
    further = None if submission is None else _submitted(submission, members, runs, judged.final)
    combined = _combined(members, runs, recipe, judged)
    name = f"{recipe.method} of {len(runs)}"
    table = _table(members, runs, recipe, name, combined, judged)
    write_predictions(output, combined)
    about = {
        "metric": recipe.metric,
        "chosen_on": _chosen_on(recipe, judged),
        "unseen": as_json({"pooled": judged.pooled, "fold_mean": judged.mean}),
    }
    file = json_file or output.removesuffix(".parquet") + ".json"
    storage.write_bytes(file, ensemble_to_json(judged.final, about).encode())
    if submission is not None and further is not None:
        write_submission(submission.file, further, submission.columns)
    print(table)
    return judged


def _check(runs: Sequence[str], recipe: Recipe, output: str) -> None:
    if recipe.method not in METHODS:
        known = nearest(recipe.method, METHODS)
        raise SettingsError(f"--method: unknown method {recipe.method!r}; {known}")
    if recipe.aggregate is not None and recipe.aggregate not in AGGREGATES:
        known = nearest(recipe.aggregate, AGGREGATES)
        raise SettingsError(f"--aggregate: unknown way {recipe.aggregate!r}; {known}")
    if recipe.weights is not None:
        if recipe.method != "weighted":
            raise SettingsError(
                f"--weights: the method must be weighted, got {recipe.method}; leave one out"
            )
        is_fit = len(recipe.weights) == len(runs) and sum(recipe.weights) > 0
        if not is_fit or not all(0 <= weight < np.inf for weight in recipe.weights):
            raise SettingsError(
                f"--weights: there must be {len(runs)} of 0 or more, not all 0, got "
                f"{', '.join(f'{weight:g}' for weight in recipe.weights)}; give one a member"
            )
    if not output.endswith(".parquet"):
        raise SettingsError(f"--output: the file must end in .parquet, got {output!r}")
    files = [predictions_file(run) for run in runs]
    for place, file in enumerate(files):
        if file in files[:place]:
            raise SettingsError(
                f"runs: each must be given once, got {runs[place]} again; leave one of them out"
            )
    if predictions_file(output) in files:
        raise SettingsError(f"--output: the file must not be a member's own, got {output!r}")


def _combined(
    members: Sequence[Predictions], runs: Sequence[str], recipe: Recipe, judged: Judged
) -> Predictions:
    """The predictions to write: of no row that chose what scored it."""
    first = members[0]
    is_kept = np.ones(len(first.frame), bool)
    if recipe.select_on is not None:
        is_kept = judged.is_unseen
    selected_on = {part for member in members for part in member.run.get("selected_on", ())}
    about: dict[str, Any] = {
        "ensemble": recipe.method,
        "members": list(runs),
        "metric": recipe.metric,
    }
    if selected_on:
        about["selected_on"] = sorted(selected_on)
    about["chosen_on"] = _chosen_on(recipe, judged)
    probs = judged.probs[is_kept]
    return make_predictions(
        first.frame[is_kept], logits_of(probs, first.label.kind), probs, first.label, about
    )


def _chosen_on(recipe: Recipe, judged: Judged) -> str | None:
    """The part that chose, or `folds`: each fold's rows are scored by what the others chose."""
    if recipe.select_on is not None:
        return recipe.select_on
    return "folds" if judged.by_fold else None


def _table(
    members: Sequence[Predictions],
    runs: Sequence[str],
    recipe: Recipe,
    name: str,
    combined: Predictions,
    judged: Judged,
) -> str:
    unseen_rows = set(members[0].frame["row"][judged.is_unseen])
    figures = {
        line: fold_figures(_only(member, unseen_rows))
        for line, member in [*zip(runs, members, strict=True), (name, combined)]
    }
    text = [score_table(figures)]
    is_more = recipe.aggregate or recipe.metric != "auc" or not np.isnan(judged.on_chosen)
    if is_more:
        alone = Recipe(metric=recipe.metric, aggregate=recipe.aggregate, select_on=recipe.select_on)
        lines = {
            run: judge([member], [run], alone) for run, member in zip(runs, members, strict=True)
        }
        text += [
            "",
            honest_table({**lines, name: judged}, recipe.metric, figures[name].selected_on),
        ]
    if recipe.method != "mean":
        text.append(f"{name}: {_weights(judged.final)}")
    return "\n".join(text)


def _only(predictions: Predictions, rows: set[int]) -> Predictions:
    frame = predictions.frame
    return dataclasses.replace(predictions, frame=frame[frame["row"].isin(rows)])


def _weights(final: Ensemble) -> str:
    """`2 × runs/a + 1 × runs/b`; the mean over classes where each has its own."""
    shares = [float(np.mean(of_member)) for of_member in final.weights]
    return " + ".join(
        f"{share:.3g} × {name}" for share, name in zip(shares, final.members, strict=True)
    )


def _submitted(
    submission: Submission, members: Sequence[Predictions], runs: Sequence[str], final: Ensemble
) -> Predictions:
    """What is to be submitted.

    Raises:
      SettingsError: columns or files do not match scores or members.
      DataError: there are no rows to submit, or they are of another label.
    """
    label = members[0].label
    check_columns(label, submission.columns)
    if submission.apply_to:
        if len(submission.apply_to) != len(runs):
            raise SettingsError(
                f"--apply_to: there must be a file for each of the {len(runs)} members, in their "
                f"order, got {len(submission.apply_to)}"
            )
        files = submission.apply_to
        members = align([read_predictions(file) for file in files], files)
        if members[0].label != label:
            raise DataError(
                f"{files[0]}: label must be that of {runs[0]}, {label}, got {members[0].label}"
            )
        is_in = np.ones(len(members[0].frame), bool)
    else:
        is_in = (members[0].frame["part"] == submission.part).to_numpy()
        if not is_in.any():
            parts = sorted(members[0].frame["part"].unique())
            raise DataError(
                f"--submission: members must predict part {submission.part!r}, got "
                f"{', '.join(parts)}; name their predictions of it with --apply_to, or another "
                "--part"
            )
    frame = members[0].frame[is_in]
    probs = final.combine(
        {run: member.probs[is_in] for run, member in zip(runs, members, strict=True)}
    )
    return make_predictions(frame, logits_of(probs, label.kind), probs, label, {})
