"""The flags of where a job runs, known without Beam's import.

`beam_jobs.engine` makes an engine of them; `beam_jobs.template` names them in the Flex Templates.
"""

from __future__ import annotations

from pipeline.command_line import Parser

RUNNERS = ("local", "dask", "dataflow")

# Flags of Dataflow's own, passed on under the same names: what each is, and whether it is a switch.
DATAFLOW_FLAGS: dict[str, tuple[str, bool]] = {
    "project": ("the Cloud project that pays", False),
    "region": ("such as us-central1; the bucket's own, or each image crosses a border", False),
    "temp_location": ("gs://BUCKET/FOLDER for what workers hand on to one another", False),
    "staging_location": ("gs://BUCKET/FOLDER for the code (default: as --temp_location)", False),
    "setup_file": ("./setup.py: workers install this package as they start", False),
    "sdk_container_image": ("the workers' image in place of it, of docker/beam.Dockerfile", False),
    "service_account_email": ("whom workers act as", False),
    "machine_type": ("of a worker, such as n2-standard-4", False),
    "disk_size_gb": ("of a worker", False),
    "num_workers": ("at the start", False),
    "max_num_workers": ("at most; a worker has a shard a core in hand", False),
    "network": ("default: Dataflow's", False),
    "subnetwork": ("regions/REGION/subnetworks/NAME", False),
    "no_use_public_ips": ("workers without addresses outside; the subnetwork needs Google's", True),
    "worker_zone": ("default: as Dataflow finds room", False),
    "job_name": ("lower-case letters, digits and hyphens (default: JOB-DATE-TIME)", False),
    "labels": ("KEY=VALUE of the bill", False),
    "template_location": ("where a Flex Template's launcher writes the job", False),
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
    for flag, (text, is_switch) in DATAFLOW_FLAGS.items():
        if is_switch:
            group.add_argument(f"--{flag}", action="store_true", help=text)
        else:
            group.add_argument(f"--{flag}", help=text)
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
