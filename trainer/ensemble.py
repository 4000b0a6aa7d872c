"""Combines the out-of-fold predictions of several runs, and says what each is worth.

    python -m trainer.ensemble runs/image runs/fused --method mean --output runs/ensemble.parquet

Members must cover the same ids with the same targets and folds, or the figure would compare unlike
things. Nothing is fitted. Starts without TensorFlow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.combine import METHODS
from pipeline.command_line import Parser, run
from pipeline.errors import SettingsError
from pipeline.predictions import (
    Predictions,
    PredictionsError,
    make_predictions,
    predictions_file,
    read_predictions,
    write_predictions,
)
from pipeline.settings import nearest
from trainer.report import fold_figures, score_table

SMALLEST_PROB = 1e-7  # keeps the logit of a certain probability finite


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.ensemble", __doc__)
    parser.add_argument("runs", nargs="+", help="run folders, or predictions files (.parquet)")
    parser.add_argument("--method", default="mean", help=f"{', '.join(METHODS)} (default mean)")
    parser.add_argument("--output", required=True, help="the predictions file to write (.parquet)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and combines."""
    flags = build_parser().parse(argv)

    def job() -> int:
        ensemble(flags.runs, flags.method, flags.output)
        return 0

    return run("ensemble", job)


def ensemble(runs: Sequence[str], method: str, output: str) -> Predictions:
    """Reads and aligns the runs' predictions, combines their probabilities, writes and reports."""
    if method not in METHODS:
        raise SettingsError(f"--method: unknown method {method!r}; {nearest(method, METHODS)}")
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
    members = align([read_predictions(run) for run in runs], runs)
    probs = METHODS[method]([member.probs for member in members])
    first = members[0]
    combined = make_predictions(
        first.frame,
        logits_of(probs, first.label.kind),
        probs,
        first.label,
        {"ensemble": method, "members": list(runs)},
    )
    write_predictions(output, combined)
    lines = {run: fold_figures(member) for run, member in zip(runs, members, strict=True)}
    print(score_table({**lines, f"{method} of {len(runs)}": fold_figures(combined)}))
    return combined


def align(members: Sequence[Predictions], names: Sequence[str]) -> list[Predictions]:
    """The members with their rows in one order, that of the first.

    Raises:
      PredictionsError: labels, ids, targets or folds differ; the message names the member at fault,
        counts its rows that do and gives the number of the first.
    """
    first, first_name = members[0], names[0]
    ids = pd.Index(first.frame["id"])
    aligned = [first]
    for member, name in zip(members[1:], names[1:], strict=True):
        where = f"{name} beside {first_name}"
        if member.label != first.label:
            raise PredictionsError(
                f"{where}: label must be equal in all members, got {member.label} and {first.label}"
            )
        own_ids = pd.Index(member.frame["id"])
        _refuse(where, "ids must be in both", member, ~own_ids.isin(ids), f"only in {name}")
        _refuse(where, "ids must be in both", first, ~ids.isin(own_ids), f"only in {first_name}")
        frame = member.frame.iloc[own_ids.get_indexer(ids)].reset_index(drop=True)
        member = Predictions(frame=frame, label=member.label, run=member.run)
        differs = (member.targets != first.targets).reshape(len(ids), -1).any(axis=1)
        _refuse(where, "targets must be equal", member, differs, "labelled otherwise")
        differs = (frame["fold"] != first.frame["fold"]).to_numpy()
        _refuse(where, "folds must be equal", member, differs, "in another fold")
        aligned.append(member)
    return aligned


def logits_of(probs: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    """float64 [N, L] probabilities -> finite logits that give them back (softmax: up to a
    constant).
    """
    probs = np.clip(probs, SMALLEST_PROB, 1 - SMALLEST_PROB)
    return np.log(probs) if kind == "multiclass" else np.log(probs) - np.log1p(-probs)


def _refuse(
    where: str, rule: str, member: Predictions, is_bad: npt.NDArray[Any], what: str
) -> None:
    if is_bad.any():
        raise PredictionsError(
            f"{where}: {rule}, got {is_bad.sum()} rows {what} "
            f"(first row {member.frame['row'].iloc[int(is_bad.argmax())]}); "
            "train the members on the same records with the same --folds and data.folds"
        )


if __name__ == "__main__":
    sys.exit(main())
