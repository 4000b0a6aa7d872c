"""Tables to vectors: what a model is told about an image beside its pixels.

The trainer fits one encoder a fold, on training rows only, and stores it beside the weights as
`RUN/foldK/metadata.json`: whoever loads the one needs the other, for a vector's columns to mean the
same (`MetadataEncoder.from_json`).

A value that is missing and one that was never seen in training each have a slot of their own: "no
site was recorded" and "a site I have not met" are different facts, and neither is the mean.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

MISSING, UNKNOWN = 0, 1  # the first two slots of every categorical column


@dataclasses.dataclass(frozen=True, kw_only=True)
class Category:
    """A text column as one-hot slots `[missing, unknown, *vocabulary]`."""

    column: str
    vocabulary: tuple[str, ...]  # sorted

    @property
    def names(self) -> tuple[str, ...]:
        """A name a slot, such as `sex=female`; the two first are `sex is missing | unknown`."""
        known = (f"{self.column}={value}" for value in self.vocabulary)
        return (f"{self.column} is missing", f"{self.column} is unknown", *known)

    def encode(self, values: pd.Series) -> npt.NDArray[np.float32]:
        """float32 [N, 2 + V] in {0, 1}, one 1 a row."""
        text = _as_text(values)
        slots = pd.Index(self.vocabulary, dtype=object).get_indexer(pd.Index(text)) + 2
        slots[slots < 2] = UNKNOWN
        slots[text == ""] = MISSING
        return np.eye(2 + len(self.vocabulary), dtype=np.float32)[slots]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A numeric column as `[standardised value, is missing]`; a missing value is the mean, 0."""

    column: str
    mean: float
    std: float

    @property
    def names(self) -> tuple[str, ...]:
        """The value's name and that of its missing bit."""
        return (self.column, f"{self.column} is missing")

    def encode(self, values: pd.Series) -> npt.NDArray[np.float32]:
        """float32 [N, 2]."""
        numbers = _as_numbers(values)
        is_known = np.isfinite(numbers)
        standardised = np.where(is_known, (numbers - self.mean) / self.std, 0.0)
        return np.stack([standardised, ~is_known], axis=1).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataEncoder:
    """Fitted columns in a fixed order: the categorical ones, then the numeric ones."""

    categories: tuple[Category, ...]
    numbers: tuple[Number, ...]

    @classmethod
    def fit(
        cls, frame: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str]
    ) -> MetadataEncoder:
        """Learns vocabularies, means and deviations from TRAINING rows, in whatever order.

        The sums are exact (`math.fsum`), so the result does not depend on the order of rows to the
        last bit. A column with one value, or none at all, is scaled by 1.
        """
        _check_columns(frame, (*categorical, *numeric))
        categories = tuple(
            Category(
                column=column,
                vocabulary=tuple(sorted(set(_as_text(frame[column])) - {""})),
            )
            for column in categorical
        )
        return cls(
            categories=categories,
            numbers=tuple(_fit_number(column, frame[column]) for column in numeric),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the D columns of `encode`."""
        return tuple(name for part in self._parts for name in part.names)

    def encode(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """float32 [N, D], all finite, a row of `frame` each."""
        _check_columns(frame, [part.column for part in self._parts])
        encoded = [part.encode(frame[part.column]) for part in self._parts]
        nothing = np.zeros((len(frame), 0), np.float32)
        return np.concatenate([nothing, *encoded], axis=1)

    def encode_by_row(self, rows: pd.DataFrame) -> npt.NDArray[np.float32]:
        """float32 [highest row + 1, D], at index `row` what `encode` gives for that row.

        `rows` has the column `row`; numbers that are absent (their images failed) are zeros.
        """
        by_row = np.zeros((int(rows["row"].max()) + 1, len(self.names)), np.float32)
        by_row[rows["row"].to_numpy()] = self.encode(rows)
        return by_row

    def to_json(self) -> str:
        """A readable text that `from_json` turns into an equal encoder."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> MetadataEncoder:
        """Inverse of `to_json`."""
        tables = json.loads(text)
        return cls(
            categories=tuple(
                Category(column=item["column"], vocabulary=tuple(item["vocabulary"]))
                for item in tables["categories"]
            ),
            numbers=tuple(Number(**item) for item in tables["numbers"]),
        )

    @property
    def _parts(self) -> tuple[Category | Number, ...]:
        return (*self.categories, *self.numbers)


def _fit_number(column: str, values: pd.Series) -> Number:
    numbers = _as_numbers(values)
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return Number(column=column, mean=0.0, std=1.0)
    mean = math.fsum(known) / len(known)
    std = math.sqrt(math.fsum((known - mean) ** 2) / len(known))
    # Rounding leaves a constant column a deviation of some 1e-16 of its value: that is no scale.
    return Number(column=column, mean=mean, std=std if std > 1e-9 * max(1.0, abs(mean)) else 1.0)


def _as_text(values: pd.Series) -> npt.NDArray[np.object_]:
    """object [N] of str; missing of any kind is ""."""
    return values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)


def _as_numbers(values: pd.Series) -> npt.NDArray[np.float64]:
    """float64 [N]; missing is NaN."""
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    lacking = [column for column in columns if column not in frame.columns]
    if lacking:
        raise ValueError(
            f"metadata: columns must be in the table, got none named {', '.join(lacking)}; "
            "make the records with them in [metadata]"
        )
