r"""Exported models and images → a table of scores, by Beam's RunInference.

    python -m beam_jobs.score_images --models runs/fused --csv test.csv --images jpeg/ \
        --output scores.parquet
    python -m beam_jobs.score_images --models runs/a runs/b --images new/ --output scores.csv
    python -m beam_jobs.score_images --ensemble ensemble.json --csv test.csv --images jpeg/ \
        --output scores.csv

An image of any kind that make_records reads is rendered as the models' records were, so it gets the
scores that its record would. Columns of metadata come from the table; one that is not there counts
as missing. The folds of a run are averaged, and so are several runs, unless an ensemble of
trainer.ensemble says otherwise. Rows without a picture go to OUTPUT's .failed.csv. The same command
again goes on where one that was stopped left off. Exit codes: 0 done, 1 the data is at fault, 2 the
command line is, 3 done but more rows failed than --max_failures allows, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.job_flags import add_job_flags
from beam_jobs.run_flags import add_run_flags
from pipeline.command_line import Parser, names, run


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("beam_jobs.score_images", __doc__)
    add = parser.add_argument
    add("--output", required=True, metavar="FILE", help="what to write: .csv, or .parquet")
    group = parser.add_argument_group("the models")
    group.add_argument(
        "--models", nargs="+", metavar="DIR",
        help="runs (their export/foldK), or folders of exported models; averaged",
    )  # fmt: skip
    group.add_argument(
        "--ensemble", metavar="JSON",
        help="of trainer.ensemble; its members are the runs that it names, or --models in order",
    )  # fmt: skip
    group = parser.add_argument_group("the images")
    group.add_argument(
        "--images", required=True, metavar="DIR",
        help="the folder that paths are under; without --csv all images in it are scored",
    )  # fmt: skip
    group.add_argument("--csv", metavar="TABLE", help="a row an image: CSV or Parquet")
    group.add_argument("--id", help="the column that names an image (default: the records')")
    group.add_argument(
        "--image_path", help="such as '{image_name}.jpg' (default: the records', else id and .jpg)"
    )
    group.add_argument("--group", help="the patient's column (default: the records', if there)")
    group.add_argument("--missing", type=names, help="texts that count as missing")
    group = parser.add_argument_group("the pictures (default: as the models' records)")
    group.add_argument("--fit", help="crop, pad, stretch, short or long")
    group.add_argument("--max_pixels", type=int, help="a larger source is refused unread")
    group = parser.add_argument_group("the job")
    group.add_argument("--batch_size", type=int, default=32, help="of the models (default 32)")
    add_job_flags(group, rows_per_shard=256)
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and scores the images."""
    flags = build_parser().parse(argv)

    def job() -> int:
        from beam_jobs.score_job import score_images  # Beam's import is not for --help

        return score_images(flags)

    return run("score_images", job)


if __name__ == "__main__":
    sys.exit(main())
