"""Is a record set what its manifest says? Every byte read, every checksum, every image decoded.

`verify_shard` looks at one shard and knows of no other; `verify_set` puts what all of them hold
together. Both tell of faults and never raise for one. The work of `beam_jobs.verify_records`.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import IO, Any

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.dataset.plan import count_part
from pipeline.images.decode import open_source
from pipeline.images.image_error import ImageError
from pipeline.ordered import map_ordered
from pipeline.records.example import ExampleCodec
from pipeline.records.features import table_column, the_feature, with_role
from pipeline.records.manifest import Manifest, ShardInfo
from pipeline.records.tfrecord import RecordError, read_records

# What is checked, in the order of the verdict lines.
CHECKS = {
    "files": "each shard is there, of the manifest's length and SHA-256",
    "framing": "each record's length and data agree with their CRC-32C",
    "schema": "each record holds the manifest's features in their types and shapes",
    "images": "each image decodes whole, and has the size of the set",
    "rows": "each record is the row, id, group, part and label of rows.parquet, once",
    "counts": "parts, groups and classes count what the manifest says",
    "groups": "no group is in two parts",
}
_MOST_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong, and where."""

    check: str  # a key of CHECKS
    file: str
    found: str
    record: int | None = None  # in the file, from 0
    offset: int | None = None  # of the record, in bytes

    def __str__(self) -> str:
        place = "" if self.record is None else f": record {self.record} at byte {self.offset}"
        return f"{self.file}{place}: {self.found}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What one shard holds."""

    file: str
    rows: list[int]  # of the records that could be read
    faults: list[Fault]

    def to_json(self) -> str:
        """For the way from a worker to the launcher."""
        return json.dumps(dataclasses.asdict(self))


def report_from_json(text: str) -> ShardReport:
    """Inverse of `ShardReport.to_json`."""
    tables = json.loads(text)
    return ShardReport(**{**tables, "faults": [Fault(**fault) for fault in tables["faults"]]})


def verify_shard(
    folder: str, manifest: Manifest, shard: ShardInfo, rows: pd.DataFrame, pool: Executor
) -> ShardReport:
    """Reads one shard from end to end; `rows` is the set's `rows.parquet`, indexed by `row`."""
    faults: list[Fault] = []
    seen: list[int] = []
    checker = _RecordChecker(manifest, shard, rows)
    try:
        file = storage.open_read(storage.join(folder, shard.file))
    except FileNotFoundError:
        gone = Fault(check="files", file=shard.file, found="there is no such file")
        return ShardReport(file=shard.file, rows=[], faults=[gone])
    with file:
        hashing = _HashingFile(file)
        records = _records_until_fault(hashing, shard.file, faults)
        for row, record_faults in map_ordered(pool, checker.check, records):
            faults += record_faults
            if row is not None:
                seen.append(row)
        hashing.read_rest()
    if hashing.length != shard.bytes:
        found = f"length must be {shard.bytes} bytes, got {hashing.length}"
        faults.append(Fault(check="files", file=shard.file, found=found))
    elif hashing.digest.hexdigest() != shard.sha256:
        found = f"SHA-256 must be {shard.sha256}, got {hashing.digest.hexdigest()}"
        faults.append(Fault(check="files", file=shard.file, found=found))
    return ShardReport(file=shard.file, rows=seen, faults=faults)


def verify_set(
    manifest: Manifest, rows: pd.DataFrame, reports: Sequence[ShardReport]
) -> list[Fault]:
    """All faults: the shards' own, and those that show only when shards are seen together."""
    faults = [fault for report in reports for fault in report.faults]
    times = collections.Counter(row for report in reports for row in report.rows)
    twice = sorted(row for row, count in times.items() if count > 1)
    absent = sorted(set(rows["row"]) - set(times))
    for wrong, what in ((twice, "are there twice"), (absent, "are in no record")):
        if wrong:
            text = f"{len(wrong)} rows {what}, the first is {wrong[0]}"
            faults.append(Fault(check="rows", file="rows.parquet", found=text))
    for part in manifest.parts:
        counted = count_part(rows, part.part, manifest.label)
        if counted != part:
            text = f"{part.part} must be {part}, got {counted}"
            faults.append(Fault(check="counts", file="manifest.json", found=text))
    for shard, report in zip(manifest.shards, reports, strict=True):
        if len(report.rows) != shard.examples and not report.faults:
            text = f"examples must be {shard.examples}, got {len(report.rows)}"
            faults.append(Fault(check="counts", file=shard.file, found=text))
    split = rows.groupby("group")["part"].nunique()
    if (split > 1).any():
        text = f"{int((split > 1).sum())} groups are in several parts"
        faults.append(Fault(check="groups", file="rows.parquet", found=text))
    return faults


class _RecordChecker:
    """Checks records of one shard; called from several threads."""

    def __init__(self, manifest: Manifest, shard: ShardInfo, rows: pd.DataFrame) -> None:
        self._manifest, self._shard, self._rows = manifest, shard, rows
        self._codec = ExampleCodec(manifest.features)
        self._row = the_feature(manifest.features, "row").name
        self._images = [feature.name for feature in with_role(manifest.features, "image")]
        keys = [(f, f.role) for role in ("id", "group") for f in with_role(manifest.features, role)]
        others = [f for role in ("part", "fold", "target", "category", "number")
                  for f in with_role(manifest.features, role)]  # fmt: skip
        self._columns = {f.name: str(role) for f, role in keys}
        self._columns |= {
            f.name: f.name if f.role in ("part", "fold", "target") else table_column(f.name)
            for f in others
        }

    def check(self, record: tuple[int, int, bytes]) -> tuple[int | None, list[Fault]]:
        """(number, byte offset, data) of a record → its row if it has one, and its faults."""
        number, offset, data = record

        def fault(check: str, found: str) -> Fault:
            file = self._shard.file
            return Fault(check=check, file=file, found=found, record=number, offset=offset)

        try:
            values = self._codec.decode(data)
        except ValueError as error:
            return None, [fault("schema", str(error))]
        faults = [fault("images", text) for text in self._image_faults(values)]
        row = values[self._row]
        if row not in self._rows.index:
            return None, [*faults, fault("rows", f"row {row} is not in rows.parquet")]
        wanted = self._rows.loc[row]
        for name, column in self._columns.items():
            if not _equal(values[name], wanted[column]):
                faults.append(fault("rows", f"{name} is another one than in rows.parquet"))
        if values[the_feature(self._manifest.features, "part").name] != self._shard.part:
            faults.append(fault("rows", f"part must be the shard's, {self._shard.part}"))
        return row, faults

    def _image_faults(self, values: dict[str, Any]) -> Iterator[str]:
        size = self._manifest.size
        for name in self._images:
            images = values[name] if isinstance(values[name], list) else [values[name]]
            for data in images:
                try:
                    pixels = open_source(data, _MOST_PIXELS).decode(8).pixels
                except ImageError as error:
                    yield f"{name}: {error}"
                    continue
                if size is not None and pixels.shape[:2] != (size, size):
                    height, width = pixels.shape[:2]
                    yield f"{name}: size must be {size}×{size} px, got {width}×{height}"


class _HashingFile:
    """A file that keeps count and digest of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest, self.length = hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.length += len(data)
        return data

    def read_rest(self) -> None:
        while self.read(1 << 20):
            pass


def _records_until_fault(
    file: _HashingFile, name: str, faults: list[Fault]
) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset, data) of each record; after a broken frame nothing can be found again."""
    try:
        for number, (offset, data) in enumerate(read_records(file, name)):
            yield number, offset, data
    except RecordError as error:
        text = str(error).removeprefix(f"{name}: ")
        faults.append(Fault(check="framing", file=name, found=text))


def _equal(value: Any, wanted: Any) -> bool:
    """Equal, with NaN equal to NaN."""
    if isinstance(value, np.ndarray):
        return np.array_equal(value, np.asarray(wanted), equal_nan=True)
    if isinstance(value, float):
        return value == np.float32(wanted) or (value != value and wanted != wanted)
    return bool(value == wanted)
