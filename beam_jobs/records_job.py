"""What `make_records` does, step by step: plan → shards by Beam → manifests → a table of it all."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import pandas as pd

from beam_jobs.local import Workers, choose_workers, run_local
from beam_jobs.progress import Progress
from beam_jobs.shards import ROWS_DONE, ShardJob, WriteShard
from pipeline import storage
from pipeline.dataset.plan import Plan, PlanError, make_plan, read_plan, write_plan
from pipeline.dataset.plan_report import describe_parts, describe_sizes
from pipeline.dataset.spec import read_spec
from pipeline.dataset.table import read_table
from pipeline.images.render import MAX_SIZE_PX, RenderSpec
from pipeline.records.commit import commit_size, write_failed
from pipeline.records.write import done_path
from pipeline.settings import SettingsError


def make_records(flags: argparse.Namespace, spec_tables: Mapping[str, Any]) -> int:
    """The job that `beam_jobs.make_records` describes; its exit code."""
    spec = read_spec(flags.spec, spec_tables)
    sizes, render = _pictures(flags)
    if flags.rows_per_shard < 1:
        raise SettingsError(f"--rows_per_shard must be 1 or more, got {flags.rows_per_shard}")
    plan, rows = make_plan(read_table(spec), spec, flags.rows_per_shard)
    _keep_or_write_plan(storage.join(flags.output, "plan"), plan, rows)
    print(describe_parts(plan.parts, plan.label, plan.dropped), flush=True)
    if flags.plan_only:
        return 0
    workers = choose_workers(flags.workers)
    job = ShardJob(
        output=flags.output,
        images=flags.images,
        sizes=sizes,
        render=render,
        threads=workers.threads,
    )
    with Progress("make_records", len(rows), "images", lambda: _rows_done(job, plan, workers)):
        run_local(lambda pipeline: _write_shards(pipeline, job, plan), workers)
    manifests = [commit_size(flags.output, size, plan, rows, render) for size in sizes]
    failed = write_failed(flags.output, sizes[0], plan, rows)
    print(describe_sizes(flags.output, manifests, failed))
    return 0


def _pictures(flags: argparse.Namespace) -> tuple[tuple[int, ...], RenderSpec]:
    sizes = tuple(sorted(set(flags.sizes)))
    if not 1 <= sizes[0] <= sizes[-1] <= MAX_SIZE_PX:
        raise SettingsError(f"--sizes must be in 1-{MAX_SIZE_PX} px, got {flags.sizes}")
    try:
        render = RenderSpec(fit=flags.fit, quality=flags.quality, max_pixels=flags.max_pixels)
    except ValueError as error:
        raise SettingsError(f"command line: {error}") from error
    return sizes, render


def _keep_or_write_plan(folder: str, plan: Plan, rows: pd.DataFrame) -> None:
    """An equal plan stays; another one is never overwritten, for records may lie beside it."""
    if not storage.exists(storage.join(folder, "plan.json")):
        write_plan(folder, plan, rows)
        return
    old = read_plan(folder)
    if old.digest == plan.digest:
        return
    differing = [
        name for name in ("name", "spec", "rows_per_shard", "features", "label", "parts")
        if getattr(old, name) != getattr(plan, name)
    ] or ["the table's rows"]  # fmt: skip
    raise PlanError(
        f"{folder}: the plan must be the one that is there, got another "
        f"({', '.join(differing)} differ); write into another --output, or delete this one"
    )


def _write_shards(pipeline: beam.Pipeline, job: ShardJob, plan: Plan) -> None:
    _ = (
        pipeline
        | "shard numbers" >> beam.Create(range(len(plan.shards)), reshuffle=True)  # int
        | "write shards" >> beam.ParDo(WriteShard(job))  # ShardDone
    )


def _rows_done(job: ShardJob, plan: Plan, workers: Workers) -> int:
    """Counted in this process where it does the work, else by the shards that are done."""
    if workers.processes == 1:
        return ROWS_DONE.rows
    size = job.sizes[-1]
    return sum(
        shard.rows
        for shard in plan.shards
        if storage.exists(done_path(job.output, size, shard.file))
    )
