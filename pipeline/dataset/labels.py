"""Labels: from a column's text to class indices, with the classes in a stated order.

Called by `pipeline.dataset.table`. A label that can't be read is an error that names the column,
the first such row's place and the value, before any image is touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.dataset.spec import LabelSpec
from pipeline.errors import DataError
from pipeline.records.label import LabelInfo, LabelKind

UNKNOWN = -1
_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}  # pandas writes the latter beside missing values


class TableError(DataError):
    """The table, or the spec laid on it, is at fault; the message names column, row and fix."""


def encode_labels(frame: pd.DataFrame, spec: LabelSpec, where: str) -> tuple[np.ndarray, LabelInfo]:
    """Class indices int64 [N] (multilabel: float32 [N, C] in [0, 1]), -1 where unknown.

    `frame` holds text, with "" for missing. Without a `kind`: several columns are multilabel, a
    column of nothing but 0 and 1 is binary, so is one with `positive` and no third value; any
    other is multiclass.
    """
    if spec.column is None:
        return np.full(len(frame), UNKNOWN, np.int64), LabelInfo(kind="none")
    if isinstance(spec.column, tuple):
        return _multilabel(frame, spec.column, spec, where)
    values = frame[spec.column]
    kind = spec.kind or _infer_kind(values, spec)
    if kind == "multilabel":
        return _multilabel(frame, (spec.column,), spec, where)
    if kind == "binary":
        return _binary(values, spec, where)
    return _multiclass(values, spec, where)


def one_hot(target: np.ndarray, classes: int) -> np.ndarray:
    """bool [N, C] for stratifying; an unknown label is a row of zeros, a soft one counts from ½."""
    if target.ndim == 2:
        return np.asarray(target >= 0.5)
    return np.asarray(target[:, None] == np.arange(classes)[None, :])


def count_classes(target: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Examples by class name, in the classes' order."""
    counts = one_hot(target, len(classes)).sum(axis=0)
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


def _infer_kind(values: pd.Series, spec: LabelSpec) -> LabelKind:
    occurring = set(values.unique()) - {""}
    is_binary = occurring <= _BINARY.keys() or (spec.positive and len(occurring) == 2)
    return "binary" if is_binary and not spec.classes else "multiclass"


def _binary(values: pd.Series, spec: LabelSpec, where: str) -> tuple[np.ndarray, LabelInfo]:
    if spec.positive:
        _check_known(values, spec.positive, "label.positive", where)
        others = sorted(set(values.unique()) - set(spec.positive) - {""})
        negative = others[0] if len(others) == 1 else "other"
        classes = (negative, "+".join(spec.positive))
        target = np.where(values == "", UNKNOWN, values.isin(spec.positive))
    else:
        numbers = {**_BINARY, "": UNKNOWN}
        _check_values(values, numbers, "0 or 1 (or name the positive values)", where)
        classes = ("0", "1")
        target = values.map(numbers).to_numpy()
        if spec.kind is None and len(np.unique(target[target != UNKNOWN])) < 2:
            raise _one_class(values, where)
    return target.astype(np.int64), LabelInfo(kind="binary", classes=classes, positive=classes[1:])


def _multiclass(values: pd.Series, spec: LabelSpec, where: str) -> tuple[np.ndarray, LabelInfo]:
    classes = spec.classes or _ordered(set(values.unique()) - {""})
    _check_values(values, {*classes, ""}, f"one of {', '.join(classes)}", where)
    if len(classes) < 2:
        raise _one_class(values, where)
    _check_known(values, spec.positive, "label.positive", where)
    index = {name: place for place, name in enumerate(classes)} | {"": UNKNOWN}
    target = values.map(index).to_numpy(np.int64)
    return target, LabelInfo(kind="multiclass", classes=classes, positive=spec.positive)


def _multilabel(
    frame: pd.DataFrame, columns: tuple[str, ...], spec: LabelSpec, where: str
) -> tuple[np.ndarray, LabelInfo]:
    target = np.empty((len(frame), len(columns)), np.float32)
    for place, column in enumerate(columns):
        numbers = pd.to_numeric(frame[column].replace("", str(UNKNOWN)), errors="coerce")
        wrong = ~(numbers.between(0, 1) | (numbers == UNKNOWN)).to_numpy()
        _refuse(frame[column], wrong, "a number in [0, 1], or missing", where)
        target[:, place] = numbers.to_numpy(np.float32)
    for name in spec.positive:
        if name not in columns:
            raise TableError(f"{where}: label.positive must be label columns, got {name!r}")
    return target, LabelInfo(kind="multilabel", classes=columns, positive=spec.positive)


def _one_class(values: pd.Series, where: str) -> TableError:
    classes = sorted(set(values.unique()) - {""})
    return TableError(
        f"{where}: column {values.name!r} must have two classes or more, got "
        f"{', '.join(map(repr, classes)) or 'none'}; name label.kind and label.classes where the "
        "others are known but do not occur, or leave the label out"
    )


def _ordered(classes: set[str]) -> tuple[str, ...]:
    """Whole numbers by value (10 after 9), anything else by text."""
    if all(re.fullmatch(r"-?[0-9]+", name) for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))


def _check_known(values: pd.Series, names: Sequence[str], setting: str, where: str) -> None:
    known = set(values.unique())
    for name in names:
        if name not in known:
            raise TableError(
                f"{where}: {setting} must be values of column {values.name!r} "
                f"({', '.join(sorted(known - {''})[:12])}), got {name!r}"
            )


def _check_values(
    values: pd.Series, allowed: set[str] | dict[str, int], rule: str, where: str
) -> None:
    _refuse(values, ~values.isin(list(allowed)).to_numpy(), rule, where)


def _refuse(values: pd.Series, wrong: np.ndarray, rule: str, where: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise TableError(
            f"{where}: column {values.name!r} must be {rule}, got {values.iloc[first]!r} "
            f"in line {int(values.index[first]) + 2} ({int(wrong.sum())} such rows)"
        )
