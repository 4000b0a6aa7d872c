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
      PredictionsError: labels, ids, targets, folds or given parts differ; the message names the
        member at fault, counts its rows that do and gives the number of the first.
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
        is_apart = (frame["fold"] < 0) & (frame["part"] != first.frame["part"])
        _refuse(where, "parts must be equal", member, is_apart.to_numpy(), "in another part")
        aligned.append(member)
    return aligned


def _refuse(
    where: str, rule: str, member: Predictions, is_bad: npt.NDArray[Any], what: str
) -> None:
    if is_bad.any():
        raise PredictionsError(
            f"{where}: {rule}, got {is_bad.sum()} rows {what} "
            f"(first row {member.frame['row'].iloc[int(is_bad.argmax())]}); "
            "train the members on the same records with the same --folds and data.folds"
        )
