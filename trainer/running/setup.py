"""What a fold trains with, built from the recipe and the records: metadata, stream, loop.

`trainer.fold_run` and `trainer.overfit` build in this order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.metadata import MetadataEncoder
from pipeline.predictions import Predictions, make_predictions, output_classes
from pipeline.records.features import table_column, with_role
from pipeline.stream.augment.mix import build_mix
from pipeline.stream.augment.ops import Op
from pipeline.stream.batches import Metadata, TrainingStream, evaluation_batches
from pipeline.stream.damage import naming_damage
from pipeline.stream.records import Portion, Records
from trainer.config import Config
from trainer.folds import FoldParts
from trainer.loop import Loop, MakeDataset
from trainer.losses import LossConfig, balance_classes
from trainer.models.build import build_model
from trainer.optimizers import build_optimizer
from trainer.precision import choose_precision, set_precision
from trainer.run_folder import fold_digests
from trainer.running.course import Course
from trainer.running.stopping import Stopping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the folds of a run have in common."""

    folder: str
    config: Config  # resolved
    records: Records
    rows: pd.DataFrame  # `read_rows` of the records, and of the extras: see `with_extra_rows`
    ops: tuple[Op, ...]
    strategy: tf.distribute.Strategy
    stopping: Stopping = dataclasses.field(default_factory=Stopping)
    extras: tuple[Portion, ...] = ()


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


def open_stream(
    run: Run, fold: FoldParts, metadata: Metadata | None, was_held: bool | None
) -> TrainingStream:
    """The training examples, held or streamed as they were; None: as the recipe says."""
    data, train = run.config.data, run.config.train
    cache = data.cache
    if cache == "auto" and was_held is not None:
        cache = "memory" if was_held else "none"
    return TrainingStream(
        run.records,
        fold.train,
        batch_size=train.batch_size,
        seed=train.seed,
        image_size_px=data.image_size_px,
        ops=run.ops,
        border=data.border,
        metadata=metadata,
        extras=run.extras,
        sampling=data.sampling,
        cache=cache,
        memory_share=data.memory_share,
        cache_folder=data.cache_folder,
        shuffle_buffer=data.shuffle_buffer,
    )


def build_loop(run: Run, fold: FoldParts, course: Course, metadata: Metadata | None) -> Loop:
    """The loop with a new model and optimizer, from the run's seed."""
    config, label = run.config, run.records.manifest.label
    # Also frees the last fold's graph, whose layer names would otherwise be counted on from.
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.train.seed)
    precision = choose_precision(config.train.precision, run.strategy)
    set_precision(precision)
    with run.strategy.scope():
        model = build_model(
            config.model,
            image_size_px=config.data.image_size_px or 0,
            metadata_width=0 if metadata is None else metadata.shape[1],
            outputs=len(output_classes(label)),
        )
        optimizer = build_optimizer(config.optimizer, course.rates, model.trainable_variables)
    return Loop(
        strategy=run.strategy,
        model=model,
        optimizer=optimizer,
        losses=_balanced_losses(run, fold),
        batch_size=course.batch_size,
        steps_per_call=config.train.steps_per_call,
        clip_norm=config.optimizer.clip_norm,
        seed=config.train.seed,
        label=label,
        accumulate=course.batches_per_step,
        ema_decay=config.optimizer.ema_decay,
        precision=precision,
        mix=build_mix(run.ops, label),
    )


def build_predict(
    run: Run, fold: FoldParts, loop: Loop, metadata: Metadata | None
) -> Callable[[], Predictions]:
    """A function that predicts every row of the validation parts once, with today's weights."""
    config, manifest = run.config, run.records.manifest
    about: dict[str, Any] = {
        "records": manifest.name,
        "fold": fold.number,
        **fold_digests(config, manifest, fold),
    }
    if config.chooses_on_validation:
        about["selected_on"] = list(fold.validation)
    make = made_once(
        lambda context: evaluation_batches(
            run.records,
            fold.validation,
            batch_size=config.train.batch_size,
            image_size_px=config.data.image_size_px,
            metadata=metadata,
            # Read once, at the end, unless it is evaluated in between.
            cache=config.data.cache if config.train.evaluate_every else "none",
            memory_share=config.data.memory_share,
            cache_folder=config.data.cache_folder,
            context=context,
        )
    )

    def predict() -> Predictions:
        with naming_damage(run.records, fold.validation):
            rows, logits = loop.predict(make)
        keys = run.rows.set_index("row", drop=False).loc[rows].assign(fold=fold.fold)
        activation = tf.nn.softmax if manifest.label.kind == "multiclass" else tf.sigmoid
        probs = activation(logits).numpy()
        return make_predictions(keys, logits, probs, manifest.label, about)

    return predict


def made_once(make: MakeDataset) -> MakeDataset:
    """`make`, called the first time only: what it makes may hold decoded images."""
    made: list[tf.data.Dataset] = []

    def first(context: tf.distribute.InputContext) -> tf.data.Dataset:
        if not made:
            made.append(make(context))
        return made[0]

    return first


def _balanced_losses(run: Run, fold: FoldParts) -> tuple[LossConfig, ...]:
    """The recipe's losses, balanced class weights counted over the fold's training rows."""
    targets = run.rows.loc[run.rows["part"].isin(fold.train), "target"]
    values = np.array(targets.tolist())
    where = f"fold {fold.number}"
    label = run.records.manifest.label
    return tuple(balance_classes(loss, label, values, where) for loss in run.config.loss)
