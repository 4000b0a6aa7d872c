"""One record held against what it should be: the manifest's features, `rows.parquet`, the table.

Called by `pipeline.records.verify`, from several threads. Values are looked up in columns, never in
lines of a table: pandas needs 50 µs for a line, a column's element costs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.images.decode import open_source
from pipeline.images.fit import SQUARE_FITS, is_fitted
from pipeline.images.image_error import ImageError
from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature, Role, table_column, with_role
from pipeline.records.manifest import Manifest, ShardInfo

_MOST_PIXELS = 100_000_000
_KEY_ROLES: tuple[Role, ...] = ("id", "group")
_OWN_ROLES: tuple[Role, ...] = ("part", "fold", "target")
_TEXT_ROLES: tuple[Role, ...] = (*_KEY_ROLES, "category")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong, and where."""

    check: str  # a key of `pipeline.records.verify.CHECKS`
    file: str
    found: str
    record: int | None = None  # in the file, from 0
    offset: int | None = None  # of the record, in bytes

    def __str__(self) -> str:
        place = "" if self.record is None else f": record {self.record} at byte {self.offset}"
        return f"{self.file}{place}: {self.found}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """What a record holds, as far as it could be read."""

    row: int | None
    source: str | None  # SHA-256 of the bytes it was made of, where the record tells
    faults: list[Fault]


class Lookup:
    """A table's values by key and column; `frame`'s index is the key."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._places = {key: place for place, key in enumerate(frame.index.tolist())}
        self.columns: dict[str, Any] = {name: frame[name].to_numpy() for name in frame.columns}

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def value(self, key: Any, column: str) -> Any:
        """The value in the line of `key`, which must be there."""
        return self.columns[column][self._places[key]]


def feature_columns(features: Sequence[Feature]) -> dict[str, str]:
    """Feature → its column in `rows.parquet`, for those that have one."""
    columns = {f.name: str(role) for role in _KEY_ROLES for f in with_role(features, role)}
    columns |= {f.name: f.name for role in _OWN_ROLES for f in with_role(features, role)}
    described = [*with_role(features, "category"), *with_role(features, "number")]
    return columns | {f.name: table_column(f.name) for f in described}


def table_value(feature: Feature, value: Any) -> Any:
    """A record's value as tables hold it: ids, groups and categories are text, -1 is missing."""
    if feature.role in _TEXT_ROLES and isinstance(value, int):
        return "" if value == -1 else str(value)
    return value


class RecordChecker:
    """Checks the records of one shard; `table` is the user's own, by id, where it is at hand."""

    def __init__(
        self, manifest: Manifest, shard: ShardInfo, rows: Lookup, table: Lookup | None
    ) -> None:
        self._shard, self._rows, self._table = shard, rows, table
        self._size, self._fit = manifest.size, manifest.render.get("fit", "crop")
        self._codec = ExampleCodec(manifest.features)
        self._features = {feature.name: feature for feature in manifest.features}
        self._names: dict[Role, list[str]] = {
            role: [feature.name for feature in with_role(manifest.features, role)]
            for role in ("row", "part", "image")
        }
        self._columns = feature_columns(manifest.features)
        self._first_row = manifest.first_rows[manifest.shards.index(shard)]

    def check(self, record: tuple[int, int, bytes]) -> Checked:
        """(number, byte offset, data) of a record → what was found in it."""
        number, offset, data = record

        def fault(check: str, found: str) -> Fault:
            file = self._shard.file
            return Fault(check=check, file=file, found=found, record=number, offset=offset)

        try:
            values = self._codec.decode(data)
        except ValueError as error:
            return Checked(row=None, source=None, faults=[fault("schema", str(error))])
        faults = [fault("images", text) for text in self._image_faults(values)]
        row = values[self._names["row"][0]] if self._names["row"] else self._first_row + number
        if row not in self._rows:
            faults.append(fault("rows", f"row {row} is not in rows.parquet"))
            return Checked(row=None, source=None, faults=faults)
        faults += [fault("rows", text) for text in self._row_faults(row, values)]
        if self._table is not None:
            example = self._rows.value(row, "id")
            faults += [fault("table", text) for text in self._table_faults(example, values)]
        return Checked(row=row, source=values.get("sha256"), faults=faults)

    def _row_faults(self, row: int, values: Mapping[str, Any]) -> Iterator[str]:
        for name, column in self._columns.items():
            value = table_value(self._features[name], values[name])
            if not _equal(value, self._rows.value(row, column)):
                yield f"{name} is another one than in rows.parquet"
        for name in self._names["part"]:
            if values[name] != self._shard.part:
                yield f"part must be the shard's, {self._shard.part}"

    def _table_faults(self, example: str, values: Mapping[str, Any]) -> Iterator[str]:
        assert self._table is not None
        if example not in self._table:
            yield f"the table has no {example!r}"
            return
        for name in self._table.columns:
            value = table_value(self._features[name], values[name])
            if not _equal(value, self._table.value(example, name)):
                yield f"{name} is another one than in the table"

    def _image_faults(self, values: Mapping[str, Any]) -> Iterator[str]:
        size, fit = self._size, self._fit
        for name in self._names["image"]:
            images = values[name] if isinstance(values[name], list) else [values[name]]
            for data in images:
                try:
                    pixels = open_source(data, _MOST_PIXELS).decode(8).pixels
                except ImageError as error:
                    yield f"{name}: {error}"
                    continue
                height, width = pixels.shape[:2]
                if size is not None and not is_fitted(width, height, size, fit):
                    wanted = f"{size}×{size}" if fit in SQUARE_FITS else f"{size} at the {fit} side"
                    yield f"{name}: size must be {wanted} px, got {width}×{height}"


def _equal(value: Any, wanted: Any) -> bool:
    """Equal, with NaN equal to NaN; numbers as float32, which is what records hold."""
    if isinstance(value, np.ndarray):
        return np.array_equal(value, np.asarray(wanted), equal_nan=True)
    if isinstance(value, float):
        return value == np.float32(wanted) or (value != value and wanted != wanted)
    return bool(value == wanted)
