"""Which part each row belongs to: dealt by `pipeline.dataset.folds`, or named by a column.

Called by `pipeline.dataset.plan`. Either way no group is in two parts.
"""

from __future__ import annotations

import re

import numpy as np

from pipeline.dataset.folds import assign_parts
from pipeline.dataset.labels import TableError, one_hot
from pipeline.dataset.spec import FoldsSpec
from pipeline.dataset.table import Table

GIVEN_PARTS = ("train", "val", "test", "holdout", "unlabelled")


def name_parts(table: Table, folds: FoldsSpec, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Part object [N] (`fold0`, `holdout`, …) and fold int64 [N] (-1 outside folds) of each row."""
    if table.given is not None:
        parts = _given_parts(table, folds, where)
    elif table.label.kind == "none":
        parts = np.full(len(table), "unlabelled", object)
    else:
        parts = _dealt_parts(table, folds, where)
    return parts, np.array([fold_of(part) for part in parts], np.int64)


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
        names.append("holdout")
        shares = [(1 - folds.holdout) / folds.count] * folds.count + [folds.holdout]
    labels = one_hot(table.target, len(table.label.classes))
    try:
        dealt = assign_parts(table.groups, labels, shares, folds.seed)
    except ValueError as error:  # fewer groups than parts
        raise TableError(f"{where}: {error}") from error
    return np.array(names, object)[dealt]


def _given_parts(table: Table, folds: FoldsSpec, where: str) -> np.ndarray:
    assert table.given is not None
    by_value = {value: _part_named(value, folds, where) for value in set(table.given)}
    parts = np.array([by_value[value] for value in table.given], object)
    first: dict[str, str] = {}
    split = {
        g for g, part in zip(table.groups, parts, strict=True) if first.setdefault(g, part) != part
    }
    if split:
        raise TableError(
            f"{where}: a group must be in one part only, got {len(split)} groups that "
            f"folds.column {folds.column!r} puts into several; leave folds.column out to have "
            "parts dealt, or table.group if rows of one group may be parted"
        )
    return parts


def _part_named(value: str, folds: FoldsSpec, where: str) -> str:
    number = re.fullmatch(r"(?:fold)?(\d+)(?:\.0)?", value)
    if number:
        return f"fold{int(number[1])}"
    if value in GIVEN_PARTS:
        return value
    raise TableError(
        f"{where}: column {folds.column!r} must be a fold's number, -1 (left out) or one of "
        f"{', '.join(GIVEN_PARTS)}, got {value!r}"
    )
