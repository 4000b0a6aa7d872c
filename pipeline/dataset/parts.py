"""Which part each row belongs to: dealt by `pipeline.dataset.folds`, or named by a column.

Called by `pipeline.dataset.plan`. Either way no group is in two parts.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from pipeline.dataset.folds import assign_parts
from pipeline.dataset.labels import TableError, one_hot
from pipeline.dataset.spec import DatasetSpec, FoldsSpec
from pipeline.dataset.table import Table

HOLDOUT = "holdout"  # kept out of all folds
GIVEN_PARTS = ("train", "val", "test", HOLDOUT, "unlabelled")


def name_parts(table: Table, spec: DatasetSpec) -> tuple[np.ndarray, np.ndarray]:
    """Part object [N] (`fold0`, `holdout`, …) and fold int64 [N] (-1 outside folds) of each row."""
    folds, where = spec.folds, spec.table.csv
    if table.given is not None:
        parts = _given_parts(table, table.given, spec)
    elif table.label.kind == "none":
        parts = np.full(len(table), "unlabelled", object)
    else:
        parts = _dealt_parts(table, folds, where)
    names, number = np.unique(parts, return_inverse=True)
    return parts, np.array([fold_of(name) for name in names], np.int64)[number]


def fold_of(part: str) -> int:
    """The number of a fold's part, -1 for any other."""
    match = re.fullmatch(r"fold(\d+)", part)
    return int(match[1]) if match else -1


def part_order(part: str) -> tuple[bool, int, str]:
    """Sorts folds first and by number, then the other parts by name."""
    fold = fold_of(part)
    return (fold < 0, fold, part)


def _dealt_parts(table: Table, folds: FoldsSpec, where: str) -> np.ndarray:
    names = [f"fold{fold}" for fold in range(folds.count)]
    shares = [1.0] * folds.count
    if folds.holdout is not None:
        names.append(HOLDOUT)
        shares = [(1 - folds.holdout) / folds.count] * folds.count + [folds.holdout]
    labels = one_hot(table.target, len(table.label.classes))
    try:
        dealt = assign_parts(table.units, labels, shares, folds.seed)
    except ValueError as error:  # fewer groups than parts
        raise TableError(f"{where}: {error}") from error
    return np.array(names, object)[dealt]


def _given_parts(table: Table, given: pd.Series, spec: DatasetSpec) -> np.ndarray:
    named = given.map({value: _part_named(value, spec) for value in given.unique()})
    wrong = given[named.isna()].sort_index()
    if len(wrong):
        raise TableError(
            f"{spec.table.csv}: column {given.name!r} must be a fold's number, -1 (left out) or "
            f"one of {', '.join(GIVEN_PARTS)}, got {wrong.iloc[0]!r} in line "
            f"{int(wrong.index[0]) + 2} ({len(wrong)} such rows)"
        )
    parts: np.ndarray = named.to_numpy(object)
    for units, what, mend in (
        (table.groups, "a group", "table.group if rows of one group may be parted"),
        (table.units, "a joined group", "folds.join_groups if its pairs may be parted"),
    ):
        pairs = pd.DataFrame({"unit": units, "part": parts}).drop_duplicates()
        split = int((pairs["unit"].value_counts() > 1).sum())
        if split:
            raise TableError(
                f"{spec.table.csv}: {what} must be in one part only, got {split} groups that "
                f"folds.column {spec.folds.column!r} puts into several; leave folds.column out to "
                f"have parts dealt, or {mend}"
            )
    return parts


def _part_named(value: str, spec: DatasetSpec) -> str | None:
    """The part that a cell of `folds.column` names; None for a cell that names none."""
    number = re.fullmatch(r"(?:fold)?(\d+)(?:\.0)?", value)
    if number:
        return f"fold{int(number[1])}"
    is_part = value in GIVEN_PARTS or (spec.folders is not None and value in spec.folders.parts)
    return value if is_part else None
