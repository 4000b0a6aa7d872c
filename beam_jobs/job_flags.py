"""Flags of jobs that go through shards of rows and may go on where they were stopped."""

from __future__ import annotations

import argparse

from pipeline.errors import SettingsError


def add_job_flags(group: argparse._ArgumentGroup, rows_per_shard: int) -> None:
    """Adds them, with this default of `--rows_per_shard`."""
    group.add_argument(
        "--rows_per_shard",
        type=int,
        default=rows_per_shard,
        help=f"at most (default {rows_per_shard})",
    )
    group.add_argument(
        "--max_failures",
        type=float,
        default=0.001,
        help="the share of rows that may fail before the job exits 3 (default 0.001)",
    )
    group.add_argument("--overwrite", action="store_true", help="begin afresh what is there")


def check_job_flags(flags: argparse.Namespace) -> None:
    """Raises SettingsError for a value that is out of its range."""
    if flags.rows_per_shard < 1:
        raise SettingsError(f"--rows_per_shard must be 1 or more, got {flags.rows_per_shard}")
    if not 0 <= flags.max_failures <= 1:
        raise SettingsError(f"--max_failures must be in [0, 1], got {flags.max_failures}")
