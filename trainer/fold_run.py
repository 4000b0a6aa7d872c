"""One fold from its parts to its predictions; called by `trainer.task` for each fold in turn."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from pipeline import storage
from pipeline.errors import DataError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import (
    PREDICTIONS_NAME,
    Predictions,
    make_predictions,
    output_classes,
    write_predictions,
)
from pipeline.records.features import table_column, with_role
from pipeline.stream.augment import Op
from pipeline.stream.batches import Position, TrainingStream, evaluation_batches
from pipeline.stream.records import Records
from pipeline.stream.source import Cache, naming_damage
from trainer.config import Config
from trainer.folds import FoldParts
from trainer.loop import Loop
from trainer.metrics import as_json, as_text, evaluate
from trainer.models.build import build_model
from trainer.optimizers import build_optimizer
from trainer.run_folder import fold_digests, fold_folder, withdraw_fold
from trainer.schedules import learning_rates

CACHES: dict[bool | None, Cache] = {None: "auto", True: "memory", False: "none"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the folds of a run have in common."""

    folder: str
    config: Config  # resolved
    records: Records
    rows: pd.DataFrame  # `read_rows` of the records
    ops: tuple[Op, ...]
    strategy: tf.distribute.Strategy


class TrainingError(DataError):
    """Training went wrong in a way that more steps would not mend."""


def train_fold(run: Run, fold: FoldParts) -> Predictions:
    """Trains from scratch for a fixed number of epochs and predicts with the last weights.

    Nothing is chosen on the validation parts. Withdraws the fold's older predictions, then writes
    `metadata.json`, `metrics.jsonl`, `checkpoints/` and last, so that it says "complete",
    `predictions.parquet`.

    Raises:
      TrainingError: the loss is no longer finite.
    """
    config, folder = run.config, fold_folder(run.folder, fold.number)
    withdraw_fold(run.folder, fold.number)
    encoder = fit_encoder(run, fold)
    metadata = encoder.encode_by_row(run.rows) if encoder else None
    if encoder:
        storage.write_text(storage.join(folder, "metadata.json"), encoder.to_json())
    reading: dict[str, Any] = {
        "batch_size": config.train.batch_size,
        "image_size_px": config.data.image_size_px,
        "metadata": metadata,
        "cache": CACHES[config.data.cache],
    }
    stream = TrainingStream(
        run.records,
        fold.train,
        seed=config.train.seed,
        ops=run.ops,
        shuffle_buffer=config.data.shuffle_buffer,
        **reading,
    )
    rates = learning_rates(
        config.schedule,
        config.optimizer.learning_rate,
        config.train.epochs,
        stream.steps_per_epoch,
    )
    loop = _build_loop(run, rates, 0 if metadata is None else metadata.shape[1])
    if not config.train.evaluate_every:
        reading["cache"] = "none"  # one pass at the end: nothing to hold decoded images for
    validation = evaluation_batches(run.records, fold.validation, **reading)
    predictions = _run_epochs(
        run, fold, loop, stream, rates, lambda: _predict(run, fold, loop, validation)
    )
    _save_checkpoint(folder, loop, config.train.epochs, len(rates))
    write_predictions(storage.join(folder, PREDICTIONS_NAME), predictions)
    return predictions


def fit_encoder(run: Run, fold: FoldParts) -> MetadataEncoder | None:
    """The metadata encoder of the fold's training rows; None for a model of the image alone."""
    if run.config.model.fusion is None:
        return None
    features = run.records.manifest.features
    return MetadataEncoder.fit(
        run.rows[run.rows["part"].isin(fold.train)],
        categorical=[table_column(feature.name) for feature in with_role(features, "category")],
        numeric=[table_column(feature.name) for feature in with_role(features, "number")],
    )


def _build_loop(run: Run, rates: npt.NDArray[np.float32], metadata_width: int) -> Loop:
    config = run.config
    # Also frees the last fold's graph, whose layer names would otherwise be counted on from.
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.train.seed)
    with run.strategy.scope():
        model = build_model(
            config.model,
            image_size_px=config.data.image_size_px or 0,
            metadata_width=metadata_width,
            outputs=len(output_classes(run.records.manifest.label)),
        )
        optimizer = build_optimizer(config.optimizer, rates, model.trainable_variables)
    return Loop(
        strategy=run.strategy,
        model=model,
        optimizer=optimizer,
        losses=config.loss,
        batch_size=config.train.batch_size,
        steps_per_call=config.train.steps_per_call,
        clip_norm=config.optimizer.clip_norm,
    )


def _run_epochs(
    run: Run,
    fold: FoldParts,
    loop: Loop,
    stream: TrainingStream,
    rates: npt.NDArray[np.float32],
    predict: Callable[[], Predictions],
) -> Predictions:
    """All epochs, each a line in `metrics.jsonl` and on stdout; what the last weights predict."""
    train, steps = run.config.train, stream.steps_per_epoch
    path = storage.join(fold_folder(run.folder, fold.number), "metrics.jsonl")
    lines = ""
    for epoch in range(1, train.epochs + 1):
        start = time.perf_counter()
        with naming_damage(run.records, fold.train):
            loss = loop.train(stream.epoch(Position(epoch=epoch - 1)), steps)
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise TrainingError(
                f"fold {fold.number}, epoch {epoch}: loss must stay finite, got {loss}; "
                "lower optimizer.learning_rate, or set optimizer.clip_norm = 1.0"
            )
        images_per_second = steps * train.batch_size / seconds
        figures: dict[str, Any] = {
            "fold": fold.number,
            "epoch": epoch,
            "step": epoch * steps,
            "loss": loss,
            "learning_rate": float(rates[epoch * steps - 1]),
            "images_per_second": images_per_second,
            "seconds": seconds,
        }
        text = (
            f"fold {fold.number}  epoch {epoch:>2}/{train.epochs}  loss {loss:.4f}  "
            f"{images_per_second:,.0f} images/s  {seconds:.1f} s"
        )
        is_last = epoch == train.epochs
        if is_last or (train.evaluate_every and epoch % train.evaluate_every == 0):
            predictions = predict()
            validation = evaluate(predictions)
            figures["validation"] = as_json(validation)
            text += f"  AUC {as_text(validation['auc'])}"
        print(text, flush=True)
        lines += json.dumps(figures) + "\n"
        storage.write_text(path, lines)
    return predictions


def _predict(run: Run, fold: FoldParts, loop: Loop, batches: tf.data.Dataset) -> Predictions:
    """Every row of the fold's validation parts, once."""
    manifest = run.records.manifest
    with naming_damage(run.records, fold.validation):
        rows, logits = loop.predict(batches)
    keys = run.rows.set_index("row", drop=False).loc[rows].assign(fold=fold.fold)
    activation = tf.nn.softmax if manifest.label.kind == "multiclass" else tf.sigmoid
    about = {
        "records": manifest.name,
        "fold": fold.number,
        **fold_digests(run.config, manifest, fold),
    }
    return make_predictions(keys, logits, activation(logits).numpy(), manifest.label, about)


def _save_checkpoint(folder: str, loop: Loop, epoch: int, step: int) -> None:
    """The last weights, the optimizer, and where training stands: at the start of epoch `epoch`."""
    checkpoint = tf.train.Checkpoint(
        model=loop.model,
        optimizer=loop.optimizer,
        step=tf.Variable(step, dtype=tf.int64),
        epoch=tf.Variable(epoch, dtype=tf.int64),
        examples=tf.Variable(0, dtype=tf.int64),  # consumed of that epoch
    )
    manager = tf.train.CheckpointManager(
        checkpoint, storage.join(folder, "checkpoints"), max_to_keep=1, checkpoint_name="step"
    )
    manager.save(checkpoint_number=step)
