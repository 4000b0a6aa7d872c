r"""Images and a CSV → leak-free, stratified k-fold TFRecord shards.

    python -m beam_jobs.make_records --csv train.csv --images jpeg/ \
        --image_path '{image_name}.jpg' --id image_name --label target --group patient_id \
        --categorical sex,anatom_site_general_challenge --numeric age_approx \
        --folds 5 --sizes 256 --output out/

Writes OUT/plan (which row goes where), OUT/SIZE for each size (shards, rows.parquet, manifest.json,
TFDS's files) and OUT/failed.csv. The same command again goes on where one that was stopped left
off. Exit codes: 0 done, 1 the data is at fault, 2 the command line is, 3 done but more rows failed
than --max_failures allows, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.job_flags import add_job_flags
from beam_jobs.run_flags import add_run_flags
from beam_jobs.spec_flags import add_spec_flags, spec_tables
from pipeline.command_line import Parser, run, whole_numbers


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("beam_jobs.make_records", __doc__)
    parser.add_argument("--images", help="the folder that images.path is under")
    parser.add_argument("--output", required=True, help="the folder to write into")
    add_spec_flags(parser)
    group = parser.add_argument_group("the pictures")
    group.add_argument("--sizes", type=whole_numbers, default=(256,), help="px, such as 256,384")
    group.add_argument(
        "--fit",
        default="crop",
        help="crop (centred square), pad, stretch; short or long: the side of that size",
    )
    group.add_argument(
        "--trim_borders", action="store_true", help="cut the black frame or round window off"
    )
    group.add_argument("--color_constancy", help="shades_of_gray: the same skin under every lamp")
    group.add_argument("--quality", type=int, default=95, help="of the JPEGs (default 95)")
    group.add_argument(
        "--no_enlarge", action="store_true", help="an image smaller than a size is a failed row"
    )
    group.add_argument(
        "--max_pixels", type=int, default=100_000_000, help="a larger source is refused unread"
    )
    group = parser.add_argument_group("the job")
    group.add_argument("--plan_only", action="store_true", help="write the plan and stop")
    add_job_flags(group, rows_per_shard=1024)
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and makes the records."""
    flags = build_parser().parse(argv)

    def job() -> int:
        from beam_jobs.records_job import make_records  # Beam's import is not for --help

        return make_records(flags, spec_tables(flags))

    return run("make_records", job)


if __name__ == "__main__":
    sys.exit(main())
