"""Where each row's vector of floats lies, found without reading the vectors.

A CSV is passed over once, noting the byte at which each row begins; an array tells it by its shape.
A worker then reads its own rows (`pipeline.records.values`), so that 40,000 rows of 12,210 values
need no more memory than images do. A Parquet file holds columns, not rows: `stage_values` copies
its vectors into an array beside the plan first.
"""

from __future__ import annotations

import array
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.dataset.labels import TableError
from pipeline.dataset.sources.text import (
    column_names,
    parquet_schema,
    parse_header,
    read_text,
    table_format,
)
from pipeline.dataset.spec import TableSpec, ValuesSpec
from pipeline.errors import SettingsError
from pipeline.records.values import Span, ValuesSource, cut_row
from pipeline.settings import nearest

STAGED_NAME = "values.npy"
_ROWS_AT_ONCE = 256  # of a Parquet file
_MOST_ROW_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowValues:
    """The vectors of a table's rows, in the table's order."""

    source: ValuesSource
    offsets: npt.NDArray[np.int64]  # [N], the byte at which a row begins
    sizes: npt.NDArray[np.int64]  # [N], its bytes

    def of_rows(self, rows: npt.NDArray[np.int64]) -> RowValues:
        """Those of some rows of the table, in the order of `rows`."""
        return dataclasses.replace(self, offsets=self.offsets[rows], sizes=self.sizes[rows])


def read_with_values(table: TableSpec, values: ValuesSpec) -> tuple[pd.DataFrame, RowValues]:
    """The table's other columns as `read_text` gives them, and where the vectors lie.

    TableError for columns that are not there, or an array that has other rows than the table.
    """
    if values.npy is not None:
        frame = read_text(table.csv)
        return frame, _rows_of_array(values.npy, len(frame), table.csv)
    kind = table_format(table.csv)
    if kind == "gzip":
        raise TableError(
            f"{table.csv}: values.columns must be of a table that can be read by row, got a "
            "gzipped CSV; unpack it (gunzip -k), or save it as Parquet"
        )
    names = column_names(table.csv)
    spans = _find_spans(values.columns, names, table.csv)
    if kind == "csv":
        return _index_csv(table, names, spans)
    chosen = tuple(name for start, stop in spans for name in names[start:stop])
    frame = read_text(table.csv, without=chosen)
    length = _parquet_length(table.csv, chosen)
    source = ValuesSource(path=table.csv, format="parquet", length=length, columns=chosen)
    return frame, _rows_of_shape(source, len(_npy_header(len(frame), length)), len(frame))


def stage_values(source: ValuesSource, folder: str) -> ValuesSource:
    """The source as workers can read it: itself, or a Parquet file's copy, `STAGED_NAME`, in
    `folder`, which is for the job to remove.
    """
    if source.format != "parquet":
        return source
    path = storage.join(folder, STAGED_NAME)
    with storage.open_read(source.path) as file, storage.writing(path) as copy:
        table = pq.ParquetFile(file)
        copy.write(_npy_header(table.metadata.num_rows, source.length))
        row = 0
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=list(source.columns)):
            vectors = _vectors(batch, source, row)
            copy.write(vectors.astype("<f4").tobytes())
            row += len(vectors)
    return ValuesSource(path=path, format="npy", length=source.length)


def _find_spans(columns: Sequence[str], names: Sequence[str], where: str) -> tuple[Span, ...]:
    """The columns that `values.columns` names, neighbours put together."""
    spans: list[Span] = []
    for text in columns:
        first, _, last = (text, "", text) if text in names else text.partition(":")
        for name in (first, last):
            if name not in names:
                raise TableError(
                    f"{where}: no column {name!r} (named by values.columns, as {text!r}); "
                    f"{nearest(name, names)}"
                )
        start, stop = names.index(first), names.index(last) + 1
        if start >= stop:
            raise TableError(f"{where}: values.columns must be FIRST:LAST, got {text!r} backwards")
        if spans and start < spans[-1][1]:
            raise TableError(
                f"{where}: values.columns must be in the table's order, each once, got {text!r} "
                "after a column to its right"
            )
        if spans and start == spans[-1][1]:
            start = spans.pop()[0]
        spans.append((start, stop))
    return tuple(spans)


def _index_csv(
    table: TableSpec, names: Sequence[str], spans: tuple[Span, ...]
) -> tuple[pd.DataFrame, RowValues]:
    inside = {name for start, stop in spans for name in names[start:stop]}
    others = [name for name in names if name not in inside]
    columns: list[list[str]] = [[] for _ in others]
    offsets, sizes = array.array("q"), array.array("q")  # 8 bytes a row, not 56
    with storage.open_read(table.csv) as file:
        rows = _csv_rows(file)
        _, header = next(rows)
        assert parse_header(header, table.csv) == list(names)
        for offset, data in rows:
            if len(data) > _MOST_ROW_BYTES:
                raise TableError(
                    f"{table.csv}: a row must be under {_MOST_ROW_BYTES:,} bytes, got more in row "
                    f"{len(sizes) + 1}; a quote that is opened there is not closed"
                )
            try:
                cells, _ = cut_row(data, len(names), spans)
            except ValueError as error:  # a UnicodeDecodeError is one
                raise TableError(f"{table.csv}: row {len(sizes) + 1}: {error}") from error
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
            offsets.append(offset)
            sizes.append(len(data))
    if not sizes:
        raise TableError(f"{table.csv}: the table must have rows, got none")
    source = ValuesSource(
        path=table.csv, format="csv", length=len(inside), cells=len(names), spans=spans,
        missing=table.missing,
    )  # fmt: skip
    frame = pd.DataFrame(dict(zip(others, columns, strict=True)), dtype="str")
    return frame, RowValues(
        source=source, offsets=np.array(offsets, np.int64), sizes=np.array(sizes, np.int64)
    )


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes without the line's end) of each row that is not blank, the header first."""
    pieces: list[bytes] = []
    offset, start, is_quoted = 0, 0, False
    for line in file:
        if not pieces:
            start = offset
        offset += len(line)
        pieces.append(line)
        is_quoted ^= line.count(b'"') % 2 == 1  # a newline in quotes does not end the row
        if is_quoted and offset - start <= _MOST_ROW_BYTES:
            continue
        row = b"".join(pieces).rstrip(b"\r\n")
        pieces = []
        if row:
            yield start, row
    if pieces:
        yield start, b"".join(pieces)


def _rows_of_array(path: str, rows: int, where: str) -> RowValues:
    try:
        with storage.open_read(path) as file:
            shape, is_transposed, dtype = _read_npy_header(file)
            start = file.tell()
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file") from error
    except ValueError as error:
        raise TableError(f"{path}: values.npy must be an array of numpy's: {error}") from error
    if len(shape) != 2 or dtype.kind not in "fiu" or is_transposed:
        order = ", transposed" if is_transposed else ""
        raise TableError(
            f"{path}: values.npy must be numbers of shape [rows, D] in C order, got "
            f"{dtype} of shape {list(shape)}{order}; save it by "
            "np.save(path, np.ascontiguousarray(array))"
        )
    if shape[0] != rows:
        raise TableError(f"{path}: rows must be the {rows} of {where}, got {shape[0]}")
    wanted, size = start + rows * shape[1] * dtype.itemsize, storage.size_bytes(path)
    if size < wanted:
        raise TableError(
            f"{path}: values.npy must be an array of numpy's: it is cut off at byte {size:,} of "
            f"{wanted:,}"
        )
    source = ValuesSource(path=path, format="npy", length=shape[1], dtype=dtype.str)
    return _rows_of_shape(source, start, rows)


def _read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type; ValueError where it is none."""
    of_version = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in of_version:
        raise ValueError(f"its version must be 1.0 or 2.0, got {version}")
    shape, is_transposed, dtype = of_version[version](file)
    return shape, is_transposed, dtype


def _rows_of_shape(source: ValuesSource, start: int, rows: int) -> RowValues:
    size = source.length * np.dtype(source.dtype).itemsize
    offsets = start + size * np.arange(rows, dtype=np.int64)
    return RowValues(source=source, offsets=offsets, sizes=np.full(rows, size, np.int64))


def _npy_header(rows: int, length: int) -> bytes:
    """What precedes float32 [rows, length] in a file of numpy's."""
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (rows, length)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _parquet_length(path: str, columns: Sequence[str]) -> int:
    """D of the chosen columns: their number, or the length of the first list where they are one."""
    schema = parquet_schema(path)
    kinds = [schema.field(name).type for name in columns]
    if len(kinds) == 1 and (pa.types.is_list(kinds[0]) or pa.types.is_fixed_size_list(kinds[0])):
        with storage.open_read(path) as file:
            first = next(pq.ParquetFile(file).iter_batches(1, columns=list(columns)), None)
        if first is not None and first.column(0)[0].is_valid:
            return len(first.column(0)[0])
        raise TableError(f"{path}: column {columns[0]!r} must hold lists, got none in row 1")
    for name, kind in zip(columns, kinds, strict=True):
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise TableError(
                f"{path}: column {name!r} must hold numbers (values.columns), got {kind}"
            )
    return len(columns)


def _vectors(batch: pa.RecordBatch, source: ValuesSource, row: int) -> npt.NDArray[np.float32]:
    """float32 [rows of the batch, D]; null is NaN."""
    first = batch.column(0)
    if pa.types.is_list(first.type) or pa.types.is_fixed_size_list(first.type):
        lengths = pc.list_value_length(first).fill_null(0).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != source.length)
        if len(wrong):
            raise TableError(
                f"{source.path}: column {source.columns[0]!r} must hold {source.length} numbers a "
                f"row, as in row 1, got {lengths[wrong[0]]} in row {row + wrong[0] + 1}"
            )
        flat = first.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        vectors: npt.NDArray[np.float32] = flat.reshape(-1, source.length)
        return vectors
    columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
    return np.stack(columns, axis=1).astype(np.float32)
