"""The flags of where a job runs, known without Beam's import.

`beam_jobs.engine` makes an engine of them; `beam_jobs.template` names them in the Flex Templates.
"""

from __future__ import annotations

import dataclasses

from pipeline.command_line import Parser

RUNNERS = ("local", "dask", "dataflow")


@dataclasses.dataclass(frozen=True)
class _Flag:
    """One of Dataflow's own flags, passed on to Beam."""

    text: str  # what it is
    also: str | None = None  # Beam's other spelling
    is_switch: bool = False
    is_list: bool = False  # may be repeated


DATAFLOW_FLAGS: dict[str, _Flag] = {
    "project": _Flag("the Cloud project that pays"),
    "region": _Flag("such as us-central1; the bucket's own, or each image crosses a border"),
    "temp_location": _Flag("gs://BUCKET/FOLDER for what workers hand on to one another"),
    "staging_location": _Flag("gs://BUCKET/FOLDER for the code (default: as --temp_location)"),
    "setup_file": _Flag("./setup.py: workers install this package as they start"),
    "sdk_container_image": _Flag("the workers' image in place of it, of docker/beam.Dockerfile"),
    "service_account_email": _Flag("whom workers act as"),
    "machine_type": _Flag("of a worker, such as n2-standard-4", also="worker_machine_type"),
    "disk_size_gb": _Flag("of a worker"),
    "num_workers": _Flag("at the start"),
    "max_num_workers": _Flag("at most; a worker has a shard a core in hand"),
    "network": _Flag("default: Dataflow's"),
    "subnetwork": _Flag("regions/REGION/subnetworks/NAME"),
    "no_use_public_ips": _Flag(
        "workers without addresses outside; the subnetwork needs Google's", is_switch=True
    ),
    "worker_zone": _Flag("default: as Dataflow finds room"),
    "job_name": _Flag("lower-case letters, digits and hyphens (default: JOB-DATE-TIME)"),
    # Beam's other spelling, `--label`, names a dataset's column here.
    "labels": _Flag("KEY=VALUE of the bill; may be repeated", is_list=True),
    "template_location": _Flag("where a Flex Template's launcher writes the job"),
}


def add_run_flags(parser: Parser) -> None:
    """Adds `--runner`, the local one's `--workers`, and Dataflow's own flags."""
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--runner",
        choices=RUNNERS,
        default="local",
        help="this machine (default), Dask's workers here, or Google's Dataflow",
    )
    group.add_argument("--workers", type=int, help="processes here (default: as the cores ask for)")
    group = parser.add_argument_group("on Dataflow (docs/cloud.md)")
    for name, flag in DATAFLOW_FLAGS.items():
        spellings = [f"--{name}"] if flag.also is None else [f"--{name}", f"--{flag.also}"]
        kind = "store_true" if flag.is_switch else "append" if flag.is_list else "store"
        group.add_argument(*spellings, action=kind, help=flag.text)
    group.add_argument(
        "--dataflow_option",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="any further option of Beam's; may be repeated",
    )
    group.add_argument(
        "--no_wait", action="store_true", help="leave when the job is begun; it ends by itself"
    )
