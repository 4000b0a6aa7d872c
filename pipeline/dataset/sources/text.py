"""CSV, gzipped CSV and Parquet as one kind of table: every cell the text that a CSV would hold.

`pipeline.dataset.table` and whatever else reads a user's table call `read_text`. Which of the three
a file is, its first bytes say. A CSV is read strictly: a row with a cell too many or too few is an
error that names the line, never a shifted column.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Collection, Sequence
from typing import IO, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.dataset.labels import TableError
from pipeline.errors import SettingsError

Format = Literal["csv", "gzip", "parquet"]

_MAGIC: dict[bytes, Format] = {b"\x1f\x8b": "gzip", b"PAR1": "parquet"}
_OTHER_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'"}
_BLOCK_BYTES = 1 << 24  # the longest row that is read


def table_format(path: str) -> Format:
    """What the first bytes of a table say that it is; SettingsError where there is none."""
    try:
        with storage.open_read(path) as file:
            start = file.read(4)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError(f"{path}: no such file") from error
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "csv")


def read_text(
    path: str, without: Collection[str] = (), *, allow_empty: bool = False
) -> pd.DataFrame:
    """The columns but for those in `without`: text in each cell, "" for one that is empty, without
    white space at its ends.

    The index counts the rows from 0. A byte-order mark is taken off. TableError names file and line
    of whatever cannot be read.
    """
    kind = table_format(path)
    table = _read_parquet(path, without) if kind == "parquet" else _read_csv(path, kind)
    if not table.num_rows and not allow_empty:
        raise TableError(f"{path}: the table must have rows, got none")
    # A space after a name would make another patient of it, in another fold.
    trimmed = {name: pc.utf8_trim_whitespace(table.column(name)) for name in table.column_names}
    frame: pd.DataFrame = pa.table(trimmed).to_pandas()
    return frame


def column_names(path: str) -> list[str]:
    """The names in the header, in order."""
    kind = table_format(path)
    return list(parquet_schema(path).names) if kind == "parquet" else _csv_header(path, kind)


def parse_header(line: bytes, path: str) -> list[str]:
    """The names in the first line of a CSV, which must differ and be parted by commas."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not a CSV in UTF-8: {error}") from error
    names = next(csv.reader([text.rstrip("\r\n")]), [])
    if not names:
        raise TableError(f"{path}: the table must begin with a line of column names, got none")
    for delimiter, shown in _OTHER_DELIMITERS.items():
        if len(names) == 1 and delimiter in text:
            raise TableError(
                f"{path}: cells must be parted by commas, got {shown}; save the table with commas"
            )
    check_names(names, path)
    return names


def check_names(names: Sequence[str], path: str) -> None:
    """Refuses a column that is there twice: which of the two is meant cannot be known."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise TableError(f"{path}: column names must differ, got {name!r} twice; rename one")


def _csv_header(path: str, kind: Format) -> list[str]:
    with _open(path, kind) as file:
        return parse_header(file.readline(), path)


def _open(path: str, kind: Format) -> IO[bytes]:
    file = storage.open_read(path)
    return gzip.GzipFile(fileobj=file) if kind == "gzip" else file  # type: ignore[return-value]


def _read_csv(path: str, kind: Format) -> pa.Table:
    with _open(path, kind) as file:
        names = parse_header(file.readline(), path)
        if not file.read(1):  # Arrow would call it no CSV
            return pa.table({name: pa.array([], pa.string()) for name in names})
    ragged: list[pa.csv.InvalidRow] = []

    def refuse(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    try:
        with _open(path, kind) as file:
            table = pa.csv.read_csv(
                file,
                # One thread: a ragged row then knows its number.
                read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=pa.csv.ParseOptions(
                    newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string())
                ),
            )
    except (pa.ArrowInvalid, EOFError, OSError) as error:
        raise TableError(f"{path}: not a CSV in UTF-8: {error}") from error
    if ragged:
        first = ragged[0]
        raise TableError(
            f"{path}: each line must have {first.expected_columns} cells, as the first has, got "
            f"{first.actual_columns} in line {first.number} ({len(ragged)} such lines); a text "
            'that holds a comma must stand in "quotes"'
        )
    return table


def parquet_schema(path: str) -> pa.Schema:
    """The names and types of a Parquet file."""
    try:
        with storage.open_read(path) as file:
            return pq.read_schema(file)
    except pa.ArrowInvalid as error:
        raise TableError(f"{path}: the table must be a whole Parquet file: {error}") from error


def _read_parquet(path: str, without: Collection[str]) -> pa.Table:
    names = [name for name in parquet_schema(path).names if name not in without]
    check_names(names, path)
    try:
        with storage.open_read(path) as file:
            table = pq.read_table(file, columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: the table must be a whole Parquet file: {error}") from error
    return pa.table({name: _as_text(table.column(name), name, path) for name in names})


def _as_text(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    """As pandas writes it into a CSV: the shortest text that reads back as the same number."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_dictionary(column.type):
        column = column.cast(kind)
    if pa.types.is_floating(kind):
        return _floats_as_text(column)
    if pa.types.is_boolean(kind):
        column = pc.if_else(column, "True", "False")
    elif pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise TableError(
            f"{path}: column {name!r} must hold text or numbers, got {kind}; leave it out of the "
            "file, or name it in values.columns if it is a list of numbers"
        )
    return pc.fill_null(column.cast(pa.string()), "")


def _floats_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each value once: a million rows of ages hold a hundred."""
    codes = column.combine_chunks().dictionary_encode()
    values = codes.dictionary.to_numpy(zero_copy_only=False)
    texts = pa.array(["" if value != value else str(value) for value in values], pa.string())
    return pa.chunked_array([pc.fill_null(texts.take(codes.indices), "")])
