"""Running a job on this machine: which Beam runner, how many processes, how many threads.

`beam_jobs.engine` asks for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline import storage
from pipeline.children import adopting_orphans, kill_children
from pipeline.errors import SettingsError

# One process feeds this many cores: decoders let go of the interpreter's lock, the rest does not.
_CORES_A_PROCESS = 8
# The line of a worker's stack that names the error.
_OF_STORAGE = re.compile(rf"\b{storage.StorageError.__name__}: (.+?)(?: \[while running|\n|\Z)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workers:
    """How a machine's cores are used."""

    processes: int
    threads: int  # in each


def choose_workers(processes: int | None) -> Workers:
    """All the cores this process may use, in as few processes as keep them busy."""
    cores = len(os.sched_getaffinity(0))
    processes = processes or -(-cores // _CORES_A_PROCESS)
    return Workers(processes=processes, threads=max(1, -(-cores // processes)))


@contextlib.contextmanager
def stopping_cleanly(folders: Sequence[str]) -> Iterator[None]:
    """While the block runs, SIGTERM and Ctrl-C end the process at once and leave whole files only.

    Exit codes 143 and 130. Work in other threads can't be unwound in time (a shard may take
    minutes), so nothing is unwound: worker processes are killed, what they and this process have
    half written in `folders` is removed, and the process leaves without further ado.
    """

    def stop(signal_number: int, frame: types.FrameType | None) -> None:
        try:
            kill_children()
            storage.discard_unfinished()
            for folder in folders:
                storage.remove_leftovers(folder)
            print("stopped; the same command again goes on from here", file=sys.stderr, flush=True)
        finally:  # also where nobody reads stderr any more
            os._exit(128 + signal_number)

    with adopting_orphans():
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_local(build: Callable[[beam.Pipeline], object], workers: Workers) -> None:
    """Runs the pipeline that `build` makes, and returns when it is done.

    The runner is named: Beam's "DirectRunner" may hand over to one that it fetches from the net.

    Raises:
      StorageError: a worker met one, which Beam hands on as the text of its stack.
    """
    # Beam warns of its own defaults and prints a failed worker's stack thrice.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    mode = "in_memory" if workers.processes == 1 else "multi_processing"
    options = PipelineOptions(
        ["--direct_running_mode", mode, "--direct_num_workers", str(workers.processes)]
    )
    try:
        with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
            build(pipeline)
    except RuntimeError as error:
        if found := _OF_STORAGE.search(str(error)):
            raise storage.StorageError(found[1]) from error
        raise


def run_dask(build: Callable[[beam.Pipeline], object], workers: Workers) -> None:
    """The same by Dask: a cluster of processes on loopback, which ends with the pipeline."""
    try:
        from dask.distributed import LocalCluster
    except ImportError as error:
        raise SettingsError(
            "--runner dask must have Dask, got none; pip install -c constraints.txt -e '.[dask]'"
        ) from error
    from apache_beam.runners.dask.dask_runner import DaskRunner

    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    with LocalCluster(
        n_workers=workers.processes,
        threads_per_worker=1,  # a shard at a time; its threads are ours
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        # A partition is one worker's: Dask's own, of 128 elements, would leave the others idle.
        options = PipelineOptions(
            ["--dask_client_address", cluster.scheduler_address, "--dask_partition_size", "1"]
        )
        pipeline = beam.Pipeline(runner=DaskRunner(), options=options)
        build(pipeline)
        result = pipeline.run()
        try:
            result.wait_until_finish()
        finally:
            result.client.close()  # before the cluster: else it would try to find it again
