"""A row's vector of floats, read from where the plan says it lies; no other row is touched.

`pipeline.dataset.sources.values` finds the places, `pipeline.records.write` reads by them. A source
is a CSV, whose row is a stretch of text, or an array on disk (`.npy`), whose row is a stretch of
numbers; either is a byte offset and a length.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from pipeline import storage

Span = tuple[int, int]  # columns from, and up to but not with

REASONS = {
    "no_row": "the file ends before the row does: it was changed after the plan was made",
    "not_numbers": "a cell is neither a number nor missing",
    "out_of_range": "a number is beyond float32",
}


class ValuesError(ValueError):
    """A row that gives no vector; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, text: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {text}")
        self.reason, self.text = reason, text


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValuesSource:
    """The file that holds the vectors, and how a row of it reads."""

    path: str
    format: Literal["csv", "npy", "parquet"]  # parquet: before `stage_values` has copied it
    length: int  # D, numbers a row
    dtype: str = "<f4"  # of an npy, as numpy writes it
    cells: int = 0  # of a CSV, a row
    spans: tuple[Span, ...] = ()  # of a CSV, the columns that are the vector, in order
    columns: tuple[str, ...] = ()  # of a Parquet file
    missing: tuple[str, ...] = ()  # texts of a CSV that are NaN


def read_values(
    source: ValuesSource, offset: int, size_bytes: int
) -> tuple[npt.NDArray[np.float32], bytes]:
    """float32 [D], NaN where missing, of the row in bytes `offset` … `offset + size_bytes`.

    Also the bytes themselves, whose SHA-256 tells in the record which values it was made of.
    ValuesError where they are not there or are no D numbers.
    """
    try:
        data = storage.read_range(source.path, offset, size_bytes)
    except FileNotFoundError as error:
        raise ValuesError("no_row", "there is no such file any more") from error
    if len(data) != size_bytes:
        raise ValuesError("no_row", f"bytes {offset}–{offset + size_bytes} are not in the file")
    if source.format == "npy":
        numbers = np.frombuffer(data, source.dtype)
    else:
        numbers = _parse_row(source, data)
    try:
        with np.errstate(over="raise"):
            return numbers.astype(np.float32), data
    except FloatingPointError as error:
        raise ValuesError("out_of_range", "a number is beyond float32") from error


def cut_row(data: bytes, cells: int, spans: Sequence[Span]) -> tuple[list[str], bytes]:
    """One row of a CSV → the cells outside `spans`, and those inside as one column of text.

    ValueError unless there are `cells` of them; UnicodeDecodeError for bytes that are not UTF-8.
    """
    if b'"' not in data and len(spans) == 1:  # two cuts in place of thousands
        _check_cells(data.count(b",") + 1, cells)
        ((start, stop),) = spans
        *head, rest = data.split(b",", start)
        block, *tail = rest.rsplit(b",", cells - stop)
        return [cell.decode() for cell in (*head, *tail)], block.replace(b",", b"\n")
    row = next(csv.reader([data.decode()]))
    _check_cells(len(row), cells)
    inside = [cell for start, stop in spans for cell in row[start:stop]]
    bounds = [0, *itertools.chain.from_iterable(spans), cells]
    outside = [
        cell
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True)
        for cell in row[start:stop]
    ]
    return outside, "\n".join(inside).encode()


def _check_cells(got: int, wanted: int) -> None:
    if got != wanted:
        raise ValueError(f"a row must have {wanted} cells, got {got}")


def _parse_row(source: ValuesSource, data: bytes) -> npt.NDArray[np.float64]:
    """Arrow reads a column of numbers 2 to 5 times as fast as numpy, and beside other threads."""
    try:
        _, column = cut_row(data, source.cells, source.spans)
        table = pa.csv.read_csv(
            pa.py_buffer(column + b"\n"),
            read_options=pa.csv.ReadOptions(
                column_names=["values"], use_threads=False, block_size=len(column) + 1
            ),
            parse_options=pa.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                column_types={"values": pa.float64()}, null_values=list(source.missing)
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValuesError("not_numbers", "a cell is neither a number nor missing") from error
    except ValueError as error:  # cut_row's: another text than when the plan was made
        raise ValuesError("no_row", "the bytes are no row of the table") from error
    numbers: npt.NDArray[np.float64] = table.column(0).to_numpy()
    if len(numbers) != source.length:
        raise ValuesError("not_numbers", f"{source.length} numbers expected, got {len(numbers)}")
    return numbers
