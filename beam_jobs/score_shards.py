"""The workers of `score_images`: one element, a shard's number; render, RunInference, write.

Rendering and writing are DoFns, the models a ModelHandler of RunInference's. It alone starts
TensorFlow, in `load_model`: in the worker, and never on import. Kept apart from the entry point, so
that what a worker unpickles is imported by name and never is `__main__`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from beam_jobs.progress import Tally
from pipeline.combine import Ensemble
from pipeline.dataset.plan import read_shard_rows
from pipeline.predictions import output_classes
from pipeline.scoring.average import Floats, average
from pipeline.scoring.exported import ExportedModel, Member, Rendering, all_models
from pipeline.scoring.prepare import Prepared, prepare_shard
from pipeline.scoring.rows import metadata_columns
from pipeline.scoring.work import ShardScores, find_scores, write_scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """What every worker of one run is told; the rows are in the work folder."""

    work: str
    digest: str  # of the plan
    images: str
    members: tuple[Member, ...]
    ensemble: Ensemble | None
    renderings: tuple[Rendering, ...]  # of the members' models, in their order
    batch_size: int
    threads: int


# Rows that this process has been through, for the progress of a run in one process.
ROWS_SCORED = Tally()


class PrepareShard(beam.DoFn):
    """Shard number → a batch of one `Prepared`; nothing of a shard whose scores are there."""

    def __init__(self, job: ScoreJob) -> None:
        super().__init__()
        self._job = job
        self._failed = beam.metrics.Metrics.counter("score_images", "rows_failed")
        self._kept = beam.metrics.Metrics.counter("score_images", "shards_kept")

    def setup(self) -> None:
        """Once a worker: the threads that decode."""
        cv2.setNumThreads(1)
        self._pool = ThreadPoolExecutor(self._job.threads)
        self._columns = metadata_columns(all_models(self._job.members))

    def process(self, shard: int) -> Iterator[list[Prepared]]:
        job = self._job
        there = find_scores(job.work, shard, job.digest)
        if there is not None:
            self._kept.inc()
            for _ in there.rows:
                ROWS_SCORED.add()
            for _ in there.failures:
                ROWS_SCORED.add(failed=1)
            return
        rows = read_shard_rows(job.work, shard)
        prepared = prepare_shard(
            shard, rows, job.images, job.renderings, self._columns,
            self._pool, lambda: ROWS_SCORED.add(failed=1),
        )  # fmt: skip
        self._failed.inc(len(prepared.failures))
        yield [prepared]

    def teardown(self) -> None:
        self._pool.shutdown()


class LoadedModels:
    """What `load_model` gives: TensorFlow, and a signature a model; lists can't be shared weakly.

    The objects that were loaded are kept, for a signature alone does not keep its variables.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        import tensorflow as tf

        self.tf = tf
        self._loaded = {folder: tf.saved_model.load(folder) for folder in folders}

    def predict(self, folder: str, inputs: dict[str, Any]) -> tuple[Floats, Floats]:
        """Inputs by name, N of each -> float64 [N, L] logits and probs."""
        outputs = self._loaded[folder].signatures["serving_default"](**inputs)
        logits, probs = outputs["logits"].numpy(), outputs["probs"].numpy()
        return logits.astype(np.float64), probs.astype(np.float64)


class SavedModels(ModelHandler):
    """`Prepared` shards → their scores, by all models of a job.

    Every batch is as long as the others, the last one filled up: a row's scores do not depend on
    how many rows are beside it, nor on where the rows were cut.
    """

    def __init__(self, job: ScoreJob, environment: dict[str, str]) -> None:
        super().__init__(env_vars=environment)
        self._job = job
        self._label = all_models(job.members)[0].label

    def should_skip_batching(self) -> bool:
        """A shard is a batch already."""
        return True

    def load_model(self) -> LoadedModels:
        """Once a worker."""
        return LoadedModels([model.folder for model in all_models(self._job.members)])

    def run_inference(
        self,
        batch: Sequence[Prepared],
        model: LoadedModels,
        inference_args: dict[str, Any] | None = None,
    ) -> list[tuple[int, ShardScores]]:
        """(shard number, its scores) of each shard."""
        return [(prepared.shard, self._score(prepared, model)) for prepared in batch]

    def get_num_bytes(self, batch: Sequence[Prepared]) -> int:
        """Of the JPEGs; by default a batch would be pickled to be measured."""
        return sum(len(jpeg) for shard in batch for jpegs in shard.jpegs.values() for jpeg in jpegs)

    def get_metrics_namespace(self) -> str:
        return "score_images"

    def _score(self, prepared: Prepared, loaded: LoadedModels) -> ShardScores:
        nothing = np.empty((0, len(output_classes(self._label))))
        logits, probs = [nothing], [nothing]
        for start in range(0, len(prepared.rows), self._job.batch_size):
            rows = slice(start, min(start + self._job.batch_size, len(prepared.rows)))
            outputs = {
                member.name: [self._predict(of, prepared, rows, loaded) for of in member.models]
                for member in self._job.members
            }
            of_batch = average(outputs, self._label, self._job.ensemble)
            logits.append(of_batch[0])
            probs.append(of_batch[1])
            for _ in prepared.rows[rows]:
                ROWS_SCORED.add()
        return ShardScores(
            rows=prepared.rows,
            logits=np.concatenate(logits),
            probs=np.concatenate(probs),
            failures=prepared.failures,
        )

    def _predict(
        self, model: ExportedModel, prepared: Prepared, rows: slice, loaded: LoadedModels
    ) -> tuple[Floats, Floats]:
        tf, count = loaded.tf, rows.stop - rows.start
        inputs = {"image": tf.constant(self._filled(prepared.jpegs[model.rendering][rows]))}
        for column in model.columns:
            values = self._filled(prepared.metadata[column.name][rows])
            dtype = tf.float32 if column.known is None else tf.string
            inputs[column.input] = tf.constant(values, dtype)
        logits, probs = loaded.predict(model.folder, inputs)
        return logits[:count], probs[:count]

    def _filled(self, values: list[Any]) -> list[Any]:
        return values + values[:1] * (self._job.batch_size - len(values))


class WriteScores(beam.DoFn):
    """(shard number, scores) → that number; they are written into the work folder."""

    def __init__(self, job: ScoreJob) -> None:
        super().__init__()
        self._job = job
        self._scored = beam.metrics.Metrics.counter("score_images", "images_scored")

    def process(self, scored: tuple[int, ShardScores]) -> Iterator[int]:
        shard, scores = scored
        write_scores(self._job.work, shard, scores, self._job.digest)
        self._scored.inc(len(scores.rows))
        yield shard
