r"""Images that are the same picture: recompressed, resized, turned, mirrored or slightly cropped.

    python -m beam_jobs.find_duplicates out/256 --output duplicates.csv
    python -m beam_jobs.find_duplicates jpeg/ other_jpeg/ --output shared.csv

A dataset is a folder of records (where manifest.json is) or of image files. One is searched within
itself, two are held against each other: is a test image in the training set? Writes id_1, id_2 and
the distance of the hashes, for make_records to leave out (--drop duplicates.csv:id_2 keeps one of
each set) or to keep in one fold (--join_groups duplicates.csv). Exit codes: 0 done, 1 the data is
at fault, 2 the command line is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.run_flags import add_run_flags
from pipeline.command_line import Parser, run


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("beam_jobs.find_duplicates", __doc__)
    parser.add_argument("dataset", help="a folder of records, or of image files")
    parser.add_argument("other", nargs="?", help="another, to find what both have")
    parser.add_argument("--output", required=True, help="the CSV file to write")
    parser.add_argument(
        "--distance", type=int, default=7, help="most of the 64 bits that may differ (default 7)"
    )
    parser.add_argument(
        "--stems",
        action="store_true",
        help="ids of image files are their names without folder and suffix, not their paths",
    )
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and finds the duplicates."""
    flags = build_parser().parse(argv)

    def job() -> int:
        from beam_jobs.duplicates_job import find_duplicates  # Beam's import is not for --help

        return find_duplicates(flags)

    return run("find_duplicates", job)


if __name__ == "__main__":
    sys.exit(main())
