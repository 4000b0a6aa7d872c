"""What `verify_records` does: one element a shard, one report a shard, one verdict a check."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import cv2
import pandas as pd

from beam_jobs.engine import Numbers, choose_engine
from beam_jobs.job import Job, Outcome
from beam_jobs.progress import FinishedShards, Progress, Tally
from pipeline import storage
from pipeline.dataset.plan_report import describe_parts
from pipeline.dataset.spec import DatasetSpec, read_spec
from pipeline.dataset.table import Table, read_table
from pipeline.records.adopt import ADOPTED, adopt_records
from pipeline.records.adopt_spec import read_adopt_spec
from pipeline.records.check import Fault, Lookup
from pipeline.records.manifest import Manifest, read_manifest, read_rows
from pipeline.records.verify import (
    CHECKS,
    ShardReport,
    absent_from_records,
    report_from_json,
    verify_set,
    verify_shard,
)
from pipeline.settings import from_tables, merge
from pipeline.wording import counted

_MOST_FAULTS = 20  # shown of one check
_TABLE_NAME = "table.parquet"
RECORDS_SEEN = Tally()


def verify_records(flags: argparse.Namespace, spec_tables: Mapping[str, Any]) -> int:
    """Prints the verdicts; 0 when there is no fault, else 1.

    `spec_tables` are the flags of the dataset, laid over the spec in the manifest.
    """
    engine = choose_engine(flags, "verify_records", {"records": flags.records})
    if flags.adopt:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            spec = read_adopt_spec(flags.codes)
            adopted, guesses = adopt_records(flags.records, spec, pool)
        print(describe_parts(adopted.parts, adopted.label, dropped=0))
        if guesses:
            print(f"guessed: {'; '.join(guesses)} (--codes says otherwise)", flush=True)
    manifest = read_manifest(flags.records)
    table = None
    if flags.spec or set(spec_tables) - {"name"}:
        table = read_table(_table_spec(manifest, flags.spec, spec_tables))
    with engine.scratch() as scratch:
        if table is not None:
            with storage.writing(storage.join(scratch, _TABLE_NAME)) as file:
                _table_columns(table, manifest).to_parquet(file)
        job = VerifyRecords(
            records=flags.records,
            scratch=scratch,
            threads=engine.threads,
            shards=len(manifest.shards),
            examples=sum(shard.examples for shard in manifest.shards),
            table_classes=None if table is None else table.label.classes,
        )
        del table  # the workers and the last step read what was written of it
        return engine.run(job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyRecords(Job):
    """A report a shard, by way of files: what a worker prints or returns, Beam would keep."""

    records: str
    scratch: str  # the reports, and the table that the records are held against
    threads: int
    shards: int
    examples: int
    table_classes: tuple[str, ...] | None  # None without a table
    name: str = "verify_records"

    def build(self, pipeline: beam.Pipeline) -> beam.PCollection:
        verify = VerifyShard(self.records, self.scratch, self.threads)
        return pipeline | "shards" >> Numbers(self.shards) | "verify" >> beam.ParDo(verify)

    @contextlib.contextmanager
    def watch(self, *, in_one_process: bool) -> Iterator[None]:
        def faults_in(shard: int) -> int | None:
            found = _read_report(self.scratch, shard)
            return None if found is None else len(found.faults)

        manifest = read_manifest(self.records)
        finished = FinishedShards([shard.examples for shard in manifest.shards], faults_in)
        RECORDS_SEEN.reset()
        count = RECORDS_SEEN.count if in_one_process else finished.count
        with Progress(self.name, self.examples, "examples", "faults", count):
            yield

    def finish(self) -> Outcome:
        manifest, rows = read_manifest(self.records), read_rows(self.records)
        reports = [_read_report(self.scratch, shard) for shard in range(self.shards)]
        found = [report for report in reports if report is not None]
        faults = verify_set(manifest, rows, found)
        if self.table_classes is not None:
            with storage.open_read(storage.join(self.scratch, _TABLE_NAME)) as file:
                ids = pd.read_parquet(file, columns=[]).index.tolist()
            faults += _table_faults(self.records, manifest, rows, ids, self.table_classes)
        text = describe(manifest, faults, has_table=self.table_classes is not None)
        return Outcome(code=1 if faults else 0, text=text)


def describe(manifest: Manifest, faults: list[Fault], *, has_table: bool) -> str:
    """A line a check, and under it the faults that it found."""
    lines = []
    for check, rule in CHECKS.items():
        if check == "table" and not has_table:
            continue
        found = [fault for fault in faults if fault.check == check]
        lines.append(f"{'FAULT' if found else 'ok':<6}{check:<9}{rule}")
        lines += [f"      {fault}" for fault in found[:_MOST_FAULTS]]
        if len(found) > _MOST_FAULTS:
            lines.append(f"      and {len(found) - _MOST_FAULTS:,} more")
    examples = sum(part.examples for part in manifest.parts)
    verdict = counted(len(faults), "fault") if faults else "no fault"
    lines.append(
        f"{counted(examples, 'example')} in {counted(len(manifest.shards), 'shard')}: {verdict}"
    )
    return "\n".join(lines)


def _read_report(scratch: str, shard: int) -> ShardReport | None:
    """None while the shard isn't done."""
    try:
        return report_from_json(storage.read_text(_report_path(scratch, shard)))
    except FileNotFoundError:
        return None


def _report_path(scratch: str, shard: int) -> str:
    return storage.join(scratch, f"{shard}.json")


def _table_spec(
    manifest: Manifest, path: str | None, spec_tables: Mapping[str, Any]
) -> DatasetSpec:
    """The spec of the set, with flags over it; adopted records have none, and need a whole one."""
    if path is not None or ADOPTED in manifest.spec:
        return read_spec(path, spec_tables)
    given = {key: value for key, value in spec_tables.items() if key != "name"}
    tables = merge(manifest.spec, given)
    if "folders" in given:
        tables["table"] = {**tables["table"], "csv": tables["folders"]["root"]}
    # The manifest holds names without their folders: the files are looked for beside the table.
    beside = storage.parent(tables["table"]["csv"])
    for table, key in (("folds", "drop"), ("values", "npy")):
        if key in tables.get(table, {}) and key not in given.get(table, {}):
            tables[table] = {**tables[table], key: storage.join(beside, tables[table][key])}
    # Pairs to keep together decide on parts, of which the table knows nothing.
    tables["folds"] = {**tables["folds"], "join_groups": None}
    return from_tables(DatasetSpec, tables, "manifest.json and command line")


def _table_columns(table: Table, manifest: Manifest) -> pd.DataFrame:
    """The table's columns that are features of the records, by id."""
    known = {feature.name for feature in manifest.features if feature.role != "id"}
    columns: dict[str, Any] = {
        name: values.to_numpy() for name, values in table.columns.items() if name in known
    }
    if manifest.label.kind != "none" and table.label.kind != "none":
        columns["target"] = table.target if table.target.ndim == 1 else list(table.target)
    return pd.DataFrame(columns, index=pd.Index(table.ids, name="id"))


def _table_faults(
    folder: str, manifest: Manifest, rows: pd.DataFrame, ids: list[str], classes: tuple[str, ...]
) -> list[Fault]:
    """What shows only when the whole table, its ids and classes, is held against the whole set."""
    faults = absent_from_records(ids, rows, sum(manifest.failures.values()), _failed_ids(folder))
    if classes != manifest.label.classes:
        text = f"classes must be the table's, {classes}, got {manifest.label.classes}"
        faults.append(Fault(check="table", file="manifest.json", found=text))
    return faults


def _failed_ids(folder: str) -> set[str]:
    """The ids in `failed.csv`, which lies beside the folders of the sizes."""
    try:
        text = storage.read_text(storage.join(storage.parent(folder), "failed.csv"))
    except FileNotFoundError:
        return set()
    return {line["id"] for line in csv.DictReader(io.StringIO(text))}


class VerifyShard(beam.DoFn):
    """Shard number → that number; its report is written into the folder `scratch`."""

    def __init__(self, folder: str, scratch: str, threads: int) -> None:
        super().__init__()
        self._folder, self._scratch, self._threads = folder, scratch, threads
        self._verified = beam.metrics.Metrics.counter("verify_records", "records_verified")
        self._faults = beam.metrics.Metrics.counter("verify_records", "faults")

    def setup(self) -> None:
        """Once a worker: manifest, row table, the user's table and the threads that decode."""
        cv2.setNumThreads(1)
        self._manifest = read_manifest(self._folder)
        self._rows = Lookup(read_rows(self._folder).set_index("row"))
        path = storage.join(self._scratch, _TABLE_NAME)
        self._table = None
        if storage.exists(path):
            with storage.open_read(path) as file:
                self._table = Lookup(pd.read_parquet(file))
        self._pool = ThreadPoolExecutor(self._threads)

    def process(self, shard: int) -> Iterator[int]:
        """Verifies one shard."""
        report = verify_shard(
            self._folder, self._manifest, self._manifest.shards[shard], self._rows, self._table,
            self._pool, RECORDS_SEEN.add,
        )  # fmt: skip
        self._verified.inc(len(report.rows))
        self._faults.inc(len(report.faults))
        storage.write_text(_report_path(self._scratch, shard), report.to_json())
        yield shard

    def teardown(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
