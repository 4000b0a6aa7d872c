"""What `verify_records` does: one element a shard, one report a shard, one verdict a check."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import cv2

from beam_jobs.local import choose_workers, run_local
from pipeline import storage
from pipeline.records.manifest import Manifest, read_manifest, read_rows
from pipeline.records.verify import CHECKS, Fault, report_from_json, verify_set, verify_shard

_MOST_FAULTS = 20  # shown of one check


def verify_records(folder: str, processes: int | None) -> int:
    """Prints the verdicts; 0 when there is no fault, else 1."""
    manifest, rows = read_manifest(folder), read_rows(folder)
    workers = choose_workers(processes)
    with tempfile.TemporaryDirectory() as reports_folder:

        def build(pipeline: beam.Pipeline) -> None:
            _ = (
                pipeline
                | "shards" >> beam.Create(range(len(manifest.shards)), reshuffle=True)  # int
                | "verify" >> beam.ParDo(VerifyShard(folder, reports_folder, workers.threads))
            )

        run_local(build, workers)
        reports = [
            report_from_json(storage.read_text(storage.join(reports_folder, f"{shard}.json")))
            for shard in range(len(manifest.shards))
        ]
    faults = verify_set(manifest, rows, reports)
    print(describe(manifest, faults))
    return 1 if faults else 0


def describe(manifest: Manifest, faults: list[Fault]) -> str:
    """A line a check, and under it the faults that it found."""
    lines = []
    for check, rule in CHECKS.items():
        found = [fault for fault in faults if fault.check == check]
        lines.append(f"{'FAULT' if found else 'ok':<6}{check:<9}{rule}")
        lines += [f"      {fault}" for fault in found[:_MOST_FAULTS]]
        if len(found) > _MOST_FAULTS:
            lines.append(f"      and {len(found) - _MOST_FAULTS:,} more")
    examples = sum(part.examples for part in manifest.parts)
    verdict = f"{len(faults):,} faults" if faults else "no fault"
    lines.append(f"{examples:,} examples in {len(manifest.shards):,} shards: {verdict}")
    return "\n".join(lines)


class VerifyShard(beam.DoFn):
    """Shard number → nothing; its report is written into `reports_folder`."""

    def __init__(self, folder: str, reports_folder: str, threads: int) -> None:
        super().__init__()
        self._folder, self._reports_folder, self._threads = folder, reports_folder, threads

    def setup(self) -> None:
        """Once a worker: manifest, row table and the threads that decode."""
        cv2.setNumThreads(1)
        self._manifest = read_manifest(self._folder)
        self._rows = read_rows(self._folder).set_index("row")
        self._pool = ThreadPoolExecutor(self._threads)

    def process(self, shard: int) -> None:
        """Verifies one shard."""
        info = self._manifest.shards[shard]
        report = verify_shard(self._folder, self._manifest, info, self._rows, self._pool)
        path = storage.join(self._reports_folder, f"{shard}.json")
        storage.write_text(path, report.to_json())

    def teardown(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
