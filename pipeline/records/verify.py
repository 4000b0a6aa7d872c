"""Is a record set what its manifest says? Every byte read, every checksum, every image decoded.

`verify_shard` looks at one shard and knows of no other; `verify_set` puts what all of them hold
together. Both tell of faults and never raise for one. The work of `beam_jobs.verify_records`.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor

import pandas as pd

from pipeline import storage
from pipeline.dataset.plan import count_part
from pipeline.ordered import map_ordered
from pipeline.records.check import Fault, Lookup, RecordChecker
from pipeline.records.manifest import Manifest, ShardInfo
from pipeline.records.tfrecord import HashingReader, RecordError, scan_records

# What is checked, in the order of the verdict lines.
CHECKS = {
    "files": "each shard is there, of the manifest's length and SHA-256",
    "framing": "each record's length and data agree with their CRC-32C",
    "schema": "each record holds the manifest's features in their types and shapes",
    "images": "each image decodes whole, and has the size of the set",
    "rows": "each record is the row, id, group, part and label of rows.parquet, once",
    "counts": "parts, groups and classes count what the manifest says",
    "groups": "no group is in two parts",
    "twins": "no source is, byte for byte, in two parts",
    "table": "each example of the table is there, with the table's values and label, and no other",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What one shard holds."""

    file: str
    rows: list[int]  # of the records that could be read
    sources: list[str | None]  # SHA-256 of what each of these rows was made of
    faults: list[Fault]

    def to_json(self) -> str:
        """For the way from a worker to the launcher."""
        return json.dumps(dataclasses.asdict(self))


def report_from_json(text: str) -> ShardReport:
    """Inverse of `ShardReport.to_json`."""
    tables = json.loads(text)
    return ShardReport(**{**tables, "faults": [Fault(**fault) for fault in tables["faults"]]})


def verify_shard(
    folder: str,
    manifest: Manifest,
    shard: ShardInfo,
    rows: Lookup,
    table: Lookup | None,
    pool: Executor,
    on_record: Callable[[int], None] = lambda faults: None,
) -> ShardReport:
    """Reads one shard from end to end.

    `rows` is the set's `rows.parquet` by `row`; `table` the user's table by id, its columns under
    the features' names. `on_record` is told of each record's number of faults, for progress.
    """
    faults: list[Fault] = []
    seen: list[int] = []
    sources: list[str | None] = []
    checker = RecordChecker(manifest, shard, rows, table)
    try:
        file = storage.open_read(storage.join(folder, shard.file))
    except FileNotFoundError:
        gone = Fault(check="files", file=shard.file, found="there is no such file")
        return ShardReport(file=shard.file, rows=[], sources=[], faults=[gone])
    with file:
        hashing = HashingReader(file)
        records = _records_until_fault(hashing, shard.file, faults)
        for checked in map_ordered(pool, checker.check, records):
            faults += checked.faults
            on_record(len(checked.faults))
            if checked.row is not None:
                seen.append(checked.row)
                sources.append(checked.source)
        hashing.read_rest()
    if hashing.length != shard.bytes:
        found = f"length must be {shard.bytes} bytes, got {hashing.length}"
        faults.append(Fault(check="files", file=shard.file, found=found))
    elif hashing.sha256 != shard.sha256:
        found = f"SHA-256 must be {shard.sha256}, got {hashing.sha256}"
        faults.append(Fault(check="files", file=shard.file, found=found))
    return ShardReport(file=shard.file, rows=seen, sources=sources, faults=faults)


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
    return faults + _twins(manifest, reports)


def _twins(manifest: Manifest, reports: Sequence[ShardReport]) -> list[Fault]:
    """Equal sources in several parts: a leak that no group column tells of."""
    first: dict[str, tuple[int, str]] = {}  # source → a row made of it, and its part
    twins = []
    for shard, report in zip(manifest.shards, reports, strict=True):
        for row, source in zip(report.rows, report.sources, strict=True):
            if source is not None:
                other, part = first.setdefault(source, (row, shard.part))
                if part != shard.part:
                    twins.append((other, row))
    if not twins:
        return []
    text = (
        f"{len(twins):,} rows are of the same bytes as a row of another part, the first are "
        f"{twins[0][0]} and {twins[0][1]}; find_duplicates lists such pairs, and make_records "
        "takes them as --drop LIST:id_2 or --join_groups LIST"
    )
    return [Fault(check="twins", file="rows.parquet", found=text)]


def absent_from_records(
    table_ids: Sequence[str], rows: pd.DataFrame, failures: int, failed_ids: Collection[str]
) -> list[Fault]:
    """The table's examples that no record holds, when they are more than the `failures` counted.

    `failed_ids` are those of `failed.csv`, which may be of a later run: they only help to name one.
    """
    absent = sorted(set(table_ids) - set(rows["id"]))
    if len(absent) <= failures:
        return []
    unexplained = sorted(set(absent) - set(failed_ids)) or absent
    text = (
        f"{len(absent):,} examples of the table are in no record, but {failures:,} failed; "
        f"one of the others is {unexplained[0]!r}"
    )
    return [Fault(check="table", file="rows.parquet", found=text)]


def _records_until_fault(
    file: HashingReader, name: str, faults: list[Fault]
) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset, data) of each sound record; after a broken frame none can be found again."""
    try:
        for number, (offset, data) in enumerate(scan_records(file, name)):
            if isinstance(data, RecordError):
                faults.append(_framing_fault(name, data))
            else:
                yield number, offset, data
    except RecordError as error:
        faults.append(_framing_fault(name, error))


def _framing_fault(name: str, error: RecordError) -> Fault:
    """The error's text says which record, at which byte."""
    return Fault(check="framing", file=name, found=str(error).removeprefix(f"{name}: "))
