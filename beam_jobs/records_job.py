"""What `make_records` does, step by step: plan → shards by Beam → manifests → a table of it all."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from beam_jobs.engine import Numbers, choose_engine
from beam_jobs.job import Job, Outcome
from beam_jobs.job_flags import check_job_flags
from beam_jobs.local import stopping_cleanly
from beam_jobs.progress import FinishedShards, Progress
from beam_jobs.shards import ROWS_DONE, ShardJob, WriteShard
from pipeline import storage
from pipeline.dataset.plan import (
    Plan,
    PlanError,
    make_plan,
    read_plan,
    read_plan_rows,
    write_plan,
)
from pipeline.dataset.plan_report import describe_parts, describe_sizes
from pipeline.dataset.sources.values import STAGED_NAME, stage_values
from pipeline.dataset.spec import DatasetSpec, read_spec
from pipeline.dataset.table import read_table
from pipeline.errors import SettingsError
from pipeline.images.render import MAX_SIZE_PX, RenderSpec
from pipeline.preview.page import write_preview
from pipeline.records.commit import commit_size, refuse_empty, write_failed
from pipeline.records.done import (
    claim_size,
    discard_plan,
    discard_size,
    done_folder,
    read_done,
    size_folder,
)
from pipeline.records.manifest import manifest_version
from pipeline.records.write import Sources

# Threads a core where images come by requests: one takes some 50 ms, its picture 7 ms of a core.
_WAITING = 8


def make_records(flags: argparse.Namespace, spec_tables: Mapping[str, Any]) -> int:
    """The job that `beam_jobs.make_records` describes; its exit code."""
    spec = read_spec(flags.spec, spec_tables)
    images = _images_root(flags, spec)
    sizes, render = _pictures(flags, spec)
    check_job_flags(flags)
    engine = choose_engine(flags, "make_records", {"--images": images, "--output": flags.output})
    table = read_table(spec)
    plan, rows = make_plan(table, spec, flags.rows_per_shard)
    vectors = table.vectors.source if table.vectors else None
    del table  # the plan holds all of it; its texts would lie in memory for as long as the job runs
    if flags.overwrite:
        _discard(flags.output, plan, sizes)
    plan_folder = storage.join(flags.output, "plan")
    write_plan(plan_folder, plan, rows, may_replace=flags.plan_only)
    print(describe_parts(plan.parts, plan.label, plan.dropped), *plan.notes, sep="\n", flush=True)
    if flags.plan_only:
        return 0
    if images is not None and not storage.exists(images):
        raise SettingsError(f"--images must be a folder that is there, got {images!r}")
    for size in sizes:
        claim_size(flags.output, size, render)
    work = ShardJob(
        output=flags.output,
        sources=Sources(
            images=images,
            values=stage_values(vectors, plan_folder) if vectors else None,
        ),
        sizes=sizes,
        render=render,
        threads=engine.threads,
    )
    job = MakeRecords(
        work=work,
        shards=len(plan.shards),
        rows=len(rows),
        what="images" if spec.has_images else "examples",
        max_failures=flags.max_failures,
        before=tuple(manifest_version(size_folder(flags.output, size)) for size in sizes),
    )
    del plan, rows  # on the disk, where the workers and the last step read them
    with engine.scratch():
        return engine.run(job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeRecords(Job):
    """The shards of a plan, then the manifests and the table of them all."""

    work: ShardJob
    shards: int
    rows: int
    what: str  # a row is one of them
    max_failures: float
    before: tuple[storage.Version, ...]  # the manifest of each size that the run may replace
    name: str = "make_records"

    def build(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "shard numbers" >> Numbers(self.shards)  # int
            | "write shards" >> beam.ParDo(WriteShard(self.work))  # ShardDone
        )

    @contextlib.contextmanager
    def watch(self, *, in_one_process: bool) -> Iterator[None]:
        ROWS_DONE.reset()
        count = ROWS_DONE.count if in_one_process else _finished_shards(self.work).count
        progress = Progress(self.name, self.rows, self.what, "failed", count)
        with stopping_cleanly([*self._folders, *self._done_folders]), progress:
            yield

    def finish(self) -> Outcome:
        output, sizes = self.work.output, self.work.sizes
        plan_folder = storage.join(output, "plan")
        plan, rows = read_plan(plan_folder), read_plan_rows(plan_folder)
        for folder in (output, plan_folder, *self._done_folders, *self._folders):
            storage.remove_leftovers(folder)  # of a run that was killed before
        storage.remove(storage.join(plan_folder, STAGED_NAME))
        failed = write_failed(output, sizes, plan, rows)
        for size in sizes:
            refuse_empty(output, size, plan, rows)
        manifests = [
            commit_size(output, size, plan, rows, self.work.render, self.max_failures, over)
            for size, over in zip(sizes, self.before, strict=True)
        ]
        preview = write_preview(output, self._folders, manifests, rows, plan.dropped)
        text = f"{describe_sizes(output, manifests, failed)}\npreview: {preview}"
        if not any(manifest.failures_over_limit for manifest in manifests):
            return Outcome(code=0, text=text)
        complaint = (
            f"make_records: {failed:,} of {len(rows):,} rows failed, more than --max_failures "
            f"{self.max_failures:g} allows; the records are written, and the trainer takes them "
            "only with --allow_failures"
        )
        return Outcome(code=3, text=text, complaint=complaint)

    @property
    def _folders(self) -> list[str]:
        return [size_folder(self.work.output, size) for size in self.work.sizes]

    @property
    def _done_folders(self) -> list[str]:
        return [done_folder(self.work.output, size) for size in self.work.sizes]


def _pictures(
    flags: argparse.Namespace, spec: DatasetSpec
) -> tuple[tuple[int | None, ...], RenderSpec]:
    sizes = tuple(sorted(set(flags.sizes)))
    if not 1 <= sizes[0] <= sizes[-1] <= MAX_SIZE_PX:
        raise SettingsError(f"--sizes must be in 1-{MAX_SIZE_PX} px, got {flags.sizes}")
    try:
        render = RenderSpec(
            fit=flags.fit,
            quality=flags.quality,
            max_pixels=flags.max_pixels,
            trim_borders=flags.trim_borders,
            color_constancy=flags.color_constancy,
            no_enlarge=flags.no_enlarge,
        )
    except ValueError as error:
        raise SettingsError(f"command line: {error}") from error
    # No picture, no setting of one: values are the same set whatever --sizes and --quality say.
    return (sizes, render) if spec.has_images else ((None,), RenderSpec())


def _images_root(flags: argparse.Namespace, spec: DatasetSpec) -> str | None:
    """Where the plan's paths are: `--images`, or the folder tree itself; None without images."""
    if not spec.has_images:
        if flags.images is not None:
            raise SettingsError(
                "--images must not be given for values alone; name --image_path too, if each row "
                "has an image beside its values"
            )
        return None
    if spec.folders is not None:
        if flags.images is not None:
            raise SettingsError("--images must not be given with --from_folders, which names them")
        return spec.folders.root
    if flags.images is None and not flags.plan_only:
        raise SettingsError("--images must be given: the folder that the table's paths are under")
    return None if flags.images is None else str(flags.images)


def _discard(output: str, plan: Plan, sizes: tuple[int | None, ...]) -> None:
    """What `--overwrite` means: these sizes afresh, and all of them where the plan is another."""
    folder = storage.join(output, "plan")
    try:
        is_other = read_plan(folder).digest != plan.digest
    except PlanError:  # there is none, or a damaged one
        is_other = True
    if is_other:
        discard_plan(output)
    for size in sizes:
        discard_size(output, size)


def _finished_shards(job: ShardJob) -> FinishedShards:
    """Counts the rows of shards that are done at the size that is written last."""
    plan = read_plan(storage.join(job.output, "plan"))

    def failures(shard: int) -> int | None:
        try:
            return len(read_done(job.output, job.sizes[-1], plan.shards[shard].file).failures)
        except (FileNotFoundError, ValueError):  # not done; a damaged file is written anew
            return None

    def listed() -> list[int]:
        names = {*storage.list_names(done_folder(job.output, job.sizes[-1]))}
        return [shard for shard, its in enumerate(plan.shards) if f"{its.file}.json" in names]

    return FinishedShards([shard.rows for shard in plan.shards], failures, listed)
