"""Where a job runs: this machine, Dask's workers, or Dataflow. The one place that knows.

A job module writes a `Job`, asks `choose_engine` for the engine that the flags name, and returns
what `engine.run(job)` gives.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import logging
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner, DataflowRuntimeException
from apache_beam.runners.runner import PipelineResult

from beam_jobs.beam_options import as_beam_flags
from beam_jobs.job import Job, Outcome, outcome_from_json
from beam_jobs.local import Workers, choose_workers, run_dask, run_local
from beam_jobs.run_flags import DATAFLOW_FLAGS
from pipeline import storage
from pipeline.errors import DataError, SettingsError

# An image of 1 MB takes some 50 ms to come from GCS and 5 ms to decode: an estimate, not measured.
_DATAFLOW_THREADS = 16
# One bundle at a time in a process, of which there is one a core: a shard's threads are ours.
_ONE_BUNDLE = "--number_of_worker_harness_threads=1"
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class Engine(Protocol):
    """Runs jobs."""

    @property
    def threads(self) -> int:
        """For each DoFn: those that read and decode."""

    @property
    def cores_a_process(self) -> int | None:
        """Where processes share a machine, so many each; None: all are one's."""

    def scratch(self) -> AbstractContextManager[str]:
        """A folder that the launcher and every worker reach, gone when the job has ended well."""

    def run(self, job: Job) -> int:
        """The job from start to end; its exit code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """This machine, by Beam's own runner or by Dask's workers."""

    workers: Workers
    has_dask: bool = False

    @property
    def threads(self) -> int:
        return self.workers.threads

    @property
    def cores_a_process(self) -> int | None:
        return None if self.workers.processes == 1 else self.workers.threads

    def scratch(self) -> AbstractContextManager[str]:
        return tempfile.TemporaryDirectory()

    def run(self, job: Job) -> int:
        run = run_dask if self.has_dask else run_local
        in_one_process = self.workers.processes == 1 and not self.has_dask
        with job.watch(in_one_process=in_one_process):
            run(job.build, self.workers)
        return finish_here(job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataflowEngine:
    """Google's Dataflow. A job ends by itself: its launcher may leave it, a template's must."""

    options: tuple[str, ...]  # Beam's, as flags
    folder: str  # gs://, of this job alone
    region: str
    project: str
    waits: bool

    @property
    def threads(self) -> int:
        return _DATAFLOW_THREADS

    @property
    def cores_a_process(self) -> int | None:
        return 1  # Dataflow starts a process a core

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        # It stays: a job that nobody waits for needs it, of one that failed it tells why.
        yield self.folder

    def submit(self, job: Job) -> PipelineResult:
        """Begins the job; `dry_run` among the options: translates it only."""
        pipeline = beam.Pipeline(runner=DataflowRunner(), options=PipelineOptions(self.options))
        _ = (
            job.build(pipeline)
            | "count" >> beam.combiners.Count.Globally()  # int: one, also when nothing was done
            | "finish" >> beam.ParDo(Finish(job, self.outcome_path))
        )
        return pipeline.run()

    def run(self, job: Job) -> int:
        result = self.submit(job)
        job.begun(self.outcome_path)
        if not self.waits:
            print(f"{job.name}: begun; how it ended will be in {self.outcome_path}")
            return 0
        where = f"https://console.cloud.google.com/dataflow/jobs/{self.region}/{result.job_id()}"
        print(f"{job.name}: {where}?project={self.project}", file=sys.stderr, flush=True)
        try:
            result.wait_until_finish()
        except DataflowRuntimeException as error:
            job.ended(None)
            raise DataError(f"{job.name}: {error}; the same command again goes on") from error
        except KeyboardInterrupt:
            print(
                f"{job.name}: no longer watched; the job goes on, and how it ends will be in "
                f"{self.outcome_path}",
                file=sys.stderr,
            )
            return 130
        outcome = outcome_from_json(storage.read_text(self.outcome_path))
        job.ended(outcome)
        storage.remove_tree(self.folder)
        return outcome.tell()

    @property
    def outcome_path(self) -> str:
        """Where the last step writes how the job ended."""
        return f"{self.folder}/outcome.json"


class Finish(beam.DoFn):
    """How many elements were done → nothing; finishes the job and writes its `Outcome`."""

    def __init__(self, job: Job, path: str) -> None:
        super().__init__()
        self._job, self._path = job, path

    def process(self, count: int) -> None:
        """The one element, after the last of the work."""
        if storage.exists(self._path):  # a second try of what has ended
            return
        try:
            outcome = self._job.finish()
        except (DataError, SettingsError) as error:  # the user's to mend: not to be tried again
            code = 2 if isinstance(error, SettingsError) else 1
            outcome = Outcome(code=code, text="", complaint=f"{self._job.name}: error: {error}")
        storage.write_text(self._path, outcome.to_json())


def finish_here(job: Job) -> int:
    """What comes after the work, on the launcher; the exit code."""
    outcome = job.finish()
    job.ended(outcome)
    return outcome.tell()


class Numbers(beam.PTransform):
    """0 to `count` - 1, spread over the workers.

    The graph holds the count, not the numbers: it is as large for a million as for one.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "count" >> beam.Create([self._count])  # int
            | "numbers" >> beam.FlatMap(_numbers)  # int
            | "spread" >> beam.Reshuffle()
        )


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


def choose_engine(flags: argparse.Namespace, name: str, paths: Mapping[str, str | None]) -> Engine:
    """The engine that `--runner` names; `paths` are the flags whose files workers read or write.

    Raises:
      SettingsError: a flag of Dataflow's is missing, malformed, or given to another runner.
    """
    given = {flag: getattr(flags, flag) for flag in DATAFLOW_FLAGS if getattr(flags, flag)}
    if flags.runner != "dataflow":
        for flag in [*given, *(("dataflow_option",) if flags.dataflow_option else ())]:
            raise SettingsError(f"--{flag} must be given with --runner dataflow, got it without")
        if flags.no_wait:
            raise SettingsError("--no_wait must be given with --runner dataflow, got it without")
        if flags.workers is not None and flags.workers < 1:
            raise SettingsError(f"--workers must be 1 or more, got {flags.workers}")
        workers = choose_workers(flags.workers)
        return LocalEngine(workers=workers, has_dask=flags.runner == "dask")
    if flags.workers is not None:
        raise SettingsError("--workers must be of this machine; of Dataflow say --max_num_workers")
    for flag in ("project", "region", "temp_location"):
        if flag not in given:
            raise SettingsError(f"--{flag} must be given with --runner dataflow")
    if "setup_file" not in given and "sdk_container_image" not in given:
        raise SettingsError(
            "--setup_file or --sdk_container_image must be given with --runner dataflow: workers "
            "need this package"
        )
    paths = {**paths, "--temp_location": flags.temp_location}
    for flag, path in paths.items():
        if path is not None and not path.startswith("gs://"):
            raise SettingsError(f"{flag} must be gs:// with --runner dataflow, got {path!r}")
    given.setdefault("job_name", _job_name(name))
    if not _JOB_NAME.fullmatch(given["job_name"]):
        raise SettingsError(
            "--job_name must be lower-case letters, digits and inner hyphens, got "
            f"{given['job_name']!r}"
        )
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    return DataflowEngine(
        options=(*as_beam_flags(given, flags.dataflow_option), _ONE_BUNDLE),
        # New each time: what an earlier job of this name left there must end no other one.
        folder=f"{flags.temp_location.rstrip('/')}/foldstream-jobs/"
        f"{given['job_name']}-{secrets.token_hex(4)}",
        region=flags.region,
        project=flags.project,
        waits=not flags.no_wait and not flags.template_location,
    )


def _job_name(name: str) -> str:
    """Of this job alone: its folder under `--temp_location` is named so."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{name.replace('_', '-')}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
