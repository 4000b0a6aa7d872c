r"""Reads a record set from end to end and says whether it is what its manifest says.

    python -m beam_jobs.verify_records out/256
    python -m beam_jobs.verify_records out/256 --csv train.csv
    python -m beam_jobs.verify_records tfrecords/ --adopt --codes codes.toml

One verdict line a check; each fault names file, record and byte. With --csv the records are also
held against the table: every example is there once, with the table's values. With --adopt,
TFRecords that others wrote get a manifest and a row table first; the record files are never
changed. Exit codes: 0 all is well, 1 it is not, 2 the command line is at fault.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.run_flags import add_run_flags
from beam_jobs.spec_flags import add_spec_flags, spec_tables
from pipeline.command_line import Parser, run
from pipeline.errors import SettingsError


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("beam_jobs.verify_records", __doc__)
    parser.add_argument("records", help="the folder of one size, where manifest.json is")
    group = parser.add_argument_group("records that others wrote")
    group.add_argument("--adopt", action="store_true", help="write a manifest for them first")
    group.add_argument("--codes", help="a TOML file: names, roles, codes and parts")
    # --csv is one of them; all but the CSV's path are in the manifest already.
    add_spec_flags(parser)
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and verifies the records."""
    flags = build_parser().parse(argv)

    def job() -> int:
        if flags.codes and not flags.adopt:
            raise SettingsError("--codes must be given with --adopt, got it alone")
        from beam_jobs.verify_job import verify_records  # Beam's import is not for --help

        return verify_records(flags, spec_tables(flags))

    return run("verify_records", job)


if __name__ == "__main__":
    sys.exit(main())
