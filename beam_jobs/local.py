"""Running a job on this machine: which Beam runner, how many processes, how many threads."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

# One process feeds this many cores: decoders let go of the interpreter's lock, the rest does not.
_CORES_A_PROCESS = 8


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


def run_local(build: Callable[[beam.Pipeline], None], workers: Workers) -> None:
    """Runs the pipeline that `build` makes, and returns when it is done.

    The runner is named: Beam's "DirectRunner" may hand over to one that it fetches from the net.
    """
    # Beam warns of its own defaults and prints a failed worker's stack thrice.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    mode = "in_memory" if workers.processes == 1 else "multi_processing"
    options = PipelineOptions(
        ["--direct_running_mode", mode, "--direct_num_workers", str(workers.processes)]
    )
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        build(pipeline)
