"""Predictions of several runs with their rows in one order, or the reason why they do not fit.

`trainer.ensemble`, `trainer.compare` and `trainer.search` call `align` before they hold one run's
figures beside another's: unlike rows would compare unlike things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import pandas as pd

from pipeline.predictions import Predictions, PredictionsError


def align(members: Sequence[Predictions], names: Sequence[str]) -> list[Predictions]:
    """The members with their rows in one order, that of the first.

    Raises:
      PredictionsError: a member has no rows, or labels, ids, targets, folds or given parts differ;
        the message names the member at fault, counts its rows that do and gives the number of the
        first.
    """
    for member, name in zip(members, names, strict=True):
        if member.frame.empty:
            raise PredictionsError(f"{name}: predictions must have rows, got none; predict again")
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
        for of, of_name, is_alone in (
            (member, name, ~own_ids.isin(ids)),
            (first, first_name, ~ids.isin(own_ids)),
        ):
            what = f"only in {of_name}{_whole_folds(of, is_alone)}"
            _refuse(where, "ids must be in both", of, is_alone, what)
        frame = member.frame.iloc[own_ids.get_indexer(ids)].reset_index(drop=True)
        member = Predictions(frame=frame, label=member.label, run=member.run)
        differs = (member.targets != first.targets).reshape(len(ids), -1).any(axis=1)
        _refuse(where, "targets must be equal", member, differs, "labelled otherwise")
        differs = (frame["fold"] != first.frame["fold"]).to_numpy()
        _refuse(where, "folds must be equal", member, differs, "in another fold")
        is_apart = (frame["fold"] < 0) & (frame["part"] != first.frame["part"])
        _refuse(where, "parts must be equal", member, is_apart.to_numpy(), "in another part")
        aligned.append(member)
    return aligned


def _whole_folds(member: Predictions, is_alone: npt.NDArray[Any]) -> str:
    """`, all of its fold 1`, where the rows are those of whole folds."""
    fold = member.frame["fold"]
    alone = sorted(set(fold[is_alone]))
    if not alone or alone[0] < 0 or not is_alone[fold.isin(alone).to_numpy()].all():
        return ""
    return f", all of its fold {', '.join(map(str, alone))}"


def _refuse(
    where: str, rule: str, member: Predictions, is_bad: npt.NDArray[Any], what: str
) -> None:
    if is_bad.any():
        raise PredictionsError(
            f"{where}: {rule}, got {is_bad.sum()} rows {what} "
            f"(first row {member.frame['row'].iloc[int(is_bad.argmax())]}); "
            "train the members on the same records with the same --folds and data.folds"
        )
