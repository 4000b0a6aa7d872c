"""Reads a record set from end to end and says whether it is what its manifest says.

    python -m beam_jobs.verify_records out/256

One verdict line a check; each fault names file, record and byte. Exit codes: 0 all is well, 1 it is
not, 2 the command line is at fault.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.command_line import Parser, run


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("beam_jobs.verify_records", __doc__)
    parser.add_argument("records", help="the folder of one size, where manifest.json is")
    parser.add_argument("--workers", type=int, help="processes (default: as the cores ask for)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and verifies the records."""
    flags = build_parser().parse(argv)

    def job() -> int:
        from beam_jobs.verify_job import verify_records  # Beam's import is not for --help

        return verify_records(flags.records, flags.workers)

    return run("verify_records", job)


if __name__ == "__main__":
    sys.exit(main())
