"""The DoFn of `make_records`: one element, a shard's number; one worker, one shard.

`pipeline.records.write` does the work. Kept apart from the entry point, so that what a worker
unpickles is imported by name and never is `__main__`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import cv2

from beam_jobs.progress import Tally
from pipeline import storage
from pipeline.dataset.plan import Plan, read_plan
from pipeline.images.render import RenderSpec
from pipeline.records.done import ShardDone
from pipeline.records.write import Sources, write_shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What every worker of one run is told; the rest is in the plan."""

    output: str
    sources: Sources
    sizes: tuple[int | None, ...]  # px; None for examples without an image
    render: RenderSpec
    threads: int


# Rows that this process has been through, for the progress of a run in one process.
ROWS_DONE = Tally()


class WriteShard(beam.DoFn):
    """Shard number → the `ShardDone` of each size."""

    def __init__(self, job: ShardJob) -> None:
        super().__init__()
        self._job = job
        self._written = beam.metrics.Metrics.counter("make_records", "images_written")
        self._failed = beam.metrics.Metrics.counter("make_records", "rows_failed")

    def setup(self) -> None:
        """Once a worker: the plan without its rows, and the threads that decode."""
        cv2.setNumThreads(1)  # our threads are one a core; OpenCV's own would fight with them
        self._plan: Plan = read_plan(storage.join(self._job.output, "plan"))
        self._pool = ThreadPoolExecutor(self._job.threads)

    def process(self, shard: int) -> Iterator[ShardDone]:
        job = self._job
        dones = write_shard(
            job.output, job.sources, self._plan, shard, job.sizes, job.render,
            self._pool, ROWS_DONE.add,
        )  # fmt: skip
        self._written.inc(dones[0].examples)
        self._failed.inc(len(dones[0].failures))
        ROWS_DONE.failed += len(dones[0].failures)
        yield from dones

    def teardown(self) -> None:
        self._pool.shutdown()
