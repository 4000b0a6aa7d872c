"""What `score_images` does: rows → shards by Beam's RunInference → one table of scores."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from beam_jobs.engine import Numbers, choose_engine, finish_here
from beam_jobs.job import Job, Outcome
from beam_jobs.job_flags import check_job_flags
from beam_jobs.left_job import forget_job, how_it_ended, note_job
from beam_jobs.local import stopping_cleanly
from beam_jobs.progress import FinishedShards, Progress
from beam_jobs.score_shards import ROWS_SCORED, PrepareShard, SavedModels, ScoreJob, WriteScores
from pipeline import storage
from pipeline.combine import Ensemble, read_ensemble
from pipeline.dataset.plan import read_plan_rows
from pipeline.errors import SettingsError
from pipeline.scoring.average import check_ensemble
from pipeline.scoring.exported import Member, all_models, find_members, render_otherwise
from pipeline.scoring.finish import SUFFIXES, failed_path, write_output
from pipeline.scoring.rows import Source, read_rows
from pipeline.scoring.work import (
    ShardScores,
    alone_in,
    claim_work,
    clear_work,
    count_failures,
    cut_rows,
    find_scores,
    remove_work,
    work_folder,
)
from pipeline.wording import counted


def score_images(flags: argparse.Namespace) -> int:
    """The job that `beam_jobs.score_images` describes; its exit code."""
    _check(flags)
    paths = {"--images": flags.images, "--output": flags.output, "--ensemble": flags.ensemble}
    paths |= {f"--models {path}": path for path in flags.models or ()}
    engine = choose_engine(flags, "score_images", paths)
    ensemble = read_ensemble(flags.ensemble) if flags.ensemble else None
    members = _members(flags, ensemble)
    models = all_models(members)
    source = Source(
        images=flags.images, csv=flags.csv, id=flags.id, image_path=flags.image_path,
        group=flags.group, missing=flags.missing,
    )  # fmt: skip
    rows = read_rows(source, models)
    notes = [*rows.notes]
    if not flags.fit and not all(model.is_rendering_known for model in models):
        notes.append("the records do not say how they were rendered: --fit crop is taken")
    images = counted(len(rows.frame), "image")
    print(f"{images}, {_described(members)}", *notes, sep="\n", flush=True)
    work = work_folder(flags.output)
    with alone_in(work), engine.scratch():
        shards = cut_rows(len(rows.frame), flags.rows_per_shard)
        left = how_it_ended(work)
        if left is not None and not left.is_complete:  # a job that nobody waited for
            text = f"the job before ended by exit code {left.code}: {left.complaint}"
            print(text, file=sys.stderr)
        may_replace = left is not None and left.is_complete
        if flags.overwrite:
            clear_work(work)
        settings = _settings(flags, members)
        digest = claim_work(work, rows.frame, shards, settings, may_replace=may_replace)
        job = ScoreJob(
            work=work,
            digest=digest,
            images=flags.images,
            members=members,
            ensemble=ensemble,
            renderings=tuple(dict.fromkeys(model.rendering for model in models)),
            batch_size=flags.batch_size,
            threads=engine.threads,
        )
        scoring = ScoreImages(
            work=job,
            rows=len(rows.frame),
            rows_per_shard=flags.rows_per_shard,
            environment=_environment(engine.cores_a_process),
            output=flags.output,
            max_failures=flags.max_failures,
        )
        del rows  # in the work folder, where the workers and the last step read them
        if scoring.is_scored():  # and the last step was stopped, or found something at fault
            return finish_here(scoring)
        forget_job(work)
        return engine.run(scoring)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreImages(Job):
    """The scores of each shard in the work folder, then the output made of them."""

    work: ScoreJob
    rows: int
    rows_per_shard: int
    environment: dict[str, str]  # set before TensorFlow
    output: str
    max_failures: float
    name: str = "score_images"

    def build(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return score_shards(pipeline, self.work, len(self._shards), self.environment)

    @contextlib.contextmanager
    def watch(self, *, in_one_process: bool) -> Iterator[None]:
        folder = self.work.work
        finished = FinishedShards(self._shards, lambda shard: count_failures(folder, shard))
        ROWS_SCORED.reset()
        count = ROWS_SCORED.count if in_one_process else finished.count
        progress = Progress(self.name, self.rows, "images", "failed", count)
        with stopping_cleanly([folder]), _without_a_false_warning(), progress:
            yield

    def finish(self) -> Outcome:
        job, models = self.work, all_models(self.work.members)
        rows = read_plan_rows(job.work)
        scores = [_finished(job, shard) for shard in range(len(self._shards))]
        sizes = [rendering.size for rendering in job.renderings]
        about = _about(job.members, job.ensemble)
        reasons = write_output(self.output, rows, scores, sizes, models[0].label, about)
        return self._verdict(reasons)

    def begun(self, outcome_path: str) -> None:
        note_job(self.work.work, outcome_path)

    def ended(self, outcome: Outcome | None) -> None:
        if outcome is not None and outcome.is_complete:
            remove_work(self.work.work)
        else:
            forget_job(self.work.work)

    def is_scored(self) -> bool:
        """Whether the scores of every shard are there."""
        job = self.work
        return all(find_scores(job.work, n, job.digest) for n in range(len(self._shards)))

    @property
    def _shards(self) -> list[int]:
        """The rows of each."""
        return cut_rows(self.rows, self.rows_per_shard)

    def _verdict(self, reasons: Mapping[str, int]) -> Outcome:
        failed, rows = sum(reasons.values()), self.rows
        text = f"{counted(rows - failed, 'image')} scored: {self.output}"
        if failed:
            by_reason = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            text += f"\n{counted(failed, 'row')} failed ({by_reason}): {failed_path(self.output)}"
        if failed <= self.max_failures * rows:
            return Outcome(code=0, text=text)
        complaint = (
            f"score_images: {failed:,} of {counted(rows, 'row')} failed, more than --max_failures "
            f"{self.max_failures:g} allows; the others are scored"
        )
        return Outcome(code=3, text=text, complaint=complaint)


def _check(flags: argparse.Namespace) -> None:
    """What can be refused before anything is read."""
    if not flags.models and not flags.ensemble:
        raise SettingsError("--models or --ensemble must be given: what trainer.export wrote")
    if not flags.output.endswith(SUFFIXES):
        raise SettingsError(f"--output must end in {' or '.join(SUFFIXES)}, got {flags.output!r}")
    written = {storage.resolve(path) for path in (flags.output, failed_path(flags.output))}
    if flags.csv and storage.resolve(flags.csv) in written:
        raise SettingsError(
            f"--output must not write over the table of --csv, got {flags.output!r} for {flags.csv}"
        )
    check_job_flags(flags)
    if flags.batch_size < 1:
        raise SettingsError(f"--batch_size must be 1 or more, got {flags.batch_size}")
    if not storage.exists(flags.images):
        raise SettingsError(f"--images must be a folder that is there, got {flags.images!r}")
    if importlib.util.find_spec("tensorflow") is None:
        raise SettingsError(
            "TensorFlow must be installed to score images, got none; "
            "pip install -c constraints.txt -e '.[cpu]'"
        )


def _members(flags: argparse.Namespace, ensemble: Ensemble | None) -> tuple[Member, ...]:
    members = find_members(flags.models or [], ensemble)
    if ensemble is not None:
        check_ensemble(ensemble, all_models(members)[0].label, flags.ensemble)
    otherwise = {name: getattr(flags, name) for name in ("fit", "max_pixels")}
    return render_otherwise(
        members, {name: value for name, value in otherwise.items() if value is not None}
    )


def _settings(flags: argparse.Namespace, members: Sequence[Member]) -> dict[str, Any]:
    """What the scores follow from, beside the rows."""
    ensemble = storage.read_bytes(flags.ensemble) if flags.ensemble else b""
    return {
        "models": [model.digest for model in all_models(members)],
        "members": [len(member.models) for member in members],
        "ensemble": hashlib.sha256(ensemble).hexdigest(),
        "render": [
            {"size": model.rendering.size, **dataclasses.asdict(model.rendering.spec)}
            for model in all_models(members)
        ],
        "images": flags.images,
        "batch_size": flags.batch_size,
    }


def _described(members: Sequence[Member]) -> str:
    models = len(all_models(members))
    if models == 1:
        return "1 model"
    runs = f" of {len(members)} members" if len(members) > 1 else ""
    return f"{models} models{runs}"


def _environment(cores: int | None) -> dict[str, str]:
    """Of TensorFlow in a process that has so many cores; None: the machine's."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return quiet if cores is None else {**quiet, "TF_NUM_INTRAOP_THREADS": str(cores)}


def score_shards(
    pipeline: beam.Pipeline, job: ScoreJob, shards: int, environment: dict[str, str]
) -> beam.PCollection:
    """The job graph, which does not grow with the rows; `environment` is set before TensorFlow."""
    return (
        pipeline
        | "shard numbers" >> Numbers(shards)  # int
        | "prepare" >> beam.ParDo(PrepareShard(job))  # [Prepared]
        | "score" >> RunInference(SavedModels(job, environment))  # (shard, ShardScores)
        | "write scores" >> beam.ParDo(WriteScores(job))
    )


@contextlib.contextmanager
def _without_a_false_warning() -> Iterator[None]:
    """Beam 2.77 takes a missing PyTorch for a system that doesn't tell of memory, and warns."""

    def is_true(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Resource module is not available")

    logging.getLogger().addFilter(is_true)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_true)


def _finished(job: ScoreJob, shard: int) -> ShardScores:
    scores = find_scores(job.work, shard, job.digest)
    assert scores is not None, f"shard {shard} was written and is not there"
    return scores


def _about(members: Sequence[Member], ensemble: Ensemble | None) -> dict[str, Any]:
    """Where the scores come from, for whoever reads the file."""
    about: dict[str, Any] = {
        "members": [member.name for member in members],
        "models": [model.digest for model in all_models(members)],
    }
    if ensemble is not None:
        about["ensemble"] = ensemble.method
    selected_on = {part for model in all_models(members) for part in model.selected_on}
    return {**about, "selected_on": sorted(selected_on)} if selected_on else about
