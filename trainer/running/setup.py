"""What a fold trains with, built from the recipe and the records: metadata, stream, loop.

`trainer.fold_run` and `trainer.overfit` build in this order.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.errors import SettingsError
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
from trainer.loop import Loop
from trainer.losses import LossConfig, balance_classes
from trainer.models.build import build_model
from trainer.optimizers import build_optimizer
from trainer.precision import choose_precision, set_precision
from trainer.run_folder import Digests
from trainer.running.course import Course
from trainer.running.predictor import MakeDataset
from trainer.running.stopping import Stopping
from trainer.stages.freezing import check_blocks, freeze, rate_factors
from trainer.stages.initial import InitialWeights


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


def build_loop(
    run: Run,
    fold: FoldParts,
    course: Course,
    metadata: Metadata | None,
    initial: InitialWeights | None = None,
) -> Loop:
    """The loop of a stage with a new model and optimizer: from the run's seed, or other weights."""
    config, stage = run.config.in_stage(course.stage), run.config.stages[course.stage]
    data, label = config.data, run.records.manifest.label
    # Also frees the last loop's graph, whose layer names would otherwise be counted on from.
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.train.seed)
    precision = choose_precision(config.train.precision, run.strategy)
    set_precision(precision)
    build = functools.partial(
        build_model,
        metadata_width=0 if metadata is None else metadata.shape[1],
        outputs=len(output_classes(label)),
    )
    with run.strategy.scope():
        model = build(config.model, image_size_px=data.image_size_px or 0)
        evaluation_model = None
        if data.evaluation_size_px not in (None, data.image_size_px):
            bare = dataclasses.replace(config.model, weights=None)
            evaluation_model = build(bare, image_size_px=data.evaluation_size_px or 0)
            _check_same_weights(model, evaluation_model, config)
        if initial:
            print(f"fold {fold.number}: {initial.put_into(model)}", flush=True)
        check_blocks(model, run.config.stages)
        frozen = freeze(model, stage)
        variables = model.trainable_variables
        factors = rate_factors(model, stage.group_rates)
        optimizer = build_optimizer(config.optimizer, course.rates, variables, factors)
    if course.stages > 1 or frozen:
        print(f"fold {fold.number}: {_stage_text(course, frozen, variables)}", flush=True)
    return Loop(
        strategy=run.strategy,
        model=model,
        evaluation_model=evaluation_model,
        optimizer=optimizer,
        losses=_balanced_losses(run, config.loss, fold),
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


def open_evaluation(run: Run, fold: FoldParts, metadata: Metadata | None) -> MakeDataset:
    """What makes the validation examples, and holds them where they are read more than once."""
    data, train = run.config.data, run.config.train
    return made_once(
        lambda context: evaluation_batches(
            run.records,
            fold.validation,
            batch_size=train.batch_size,
            image_size_px=data.evaluation_size_px or data.image_size_px,
            metadata=metadata,
            # Read once, at the end, unless it is evaluated in between.
            cache=data.cache if train.evaluate_every else "none",
            memory_share=data.memory_share,
            cache_folder=data.cache_folder,
            context=context,
        )
    )


def build_predict(
    run: Run,
    fold: FoldParts,
    loop: Loop,
    evaluation: MakeDataset,
    digests: Digests,
    *,
    is_selected: bool,
) -> Callable[[], Predictions]:
    """A function that predicts every row of the validation parts once, with today's weights.

    With `is_selected` the predictions say that the validation parts were not unseen.
    """
    manifest = run.records.manifest
    about: dict[str, Any] = {"records": manifest.name, "fold": fold.number, **digests}
    if is_selected:
        about["selected_on"] = list(fold.validation)

    def predict() -> Predictions:
        with naming_damage(run.records, fold.validation):
            rows, logits = loop.predict(evaluation)
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


def _check_same_weights(model: Any, evaluation_model: Any, config: Config) -> None:
    """Raises SettingsError for a network whose weights depend on the image's size."""
    shapes, others = ([tuple(w.shape) for w in m.weights] for m in (model, evaluation_model))
    if shapes != others:
        raise SettingsError(
            f"data.evaluation_size_px must be left out for {config.model.backbone}, whose weights "
            f"are of one image size, got {config.data.evaluation_size_px}"
        )


def _stage_text(course: Course, frozen: Sequence[str], variables: Sequence[Any]) -> str:
    """`stage 2 of 3, from epoch 4: stem to block6d frozen, 1,234,567 weights train`."""
    weights = sum(math.prod(variable.shape) for variable in variables)
    held = f"{frozen[0]} to {frozen[-1]} frozen, " if frozen else ""
    return (
        f"stage {course.stage + 1} of {course.stages}, from epoch {course.first_epoch + 1}: "
        f"{held}{weights:,} weights train"
    )


def _balanced_losses(
    run: Run, losses: Sequence[LossConfig], fold: FoldParts
) -> tuple[LossConfig, ...]:
    """The losses, balanced class weights counted over the fold's training rows."""
    targets = run.rows.loc[run.rows["part"].isin(fold.train), "target"]
    values = np.array(targets.tolist())
    where = f"fold {fold.number}"
    label = run.records.manifest.label
    return tuple(balance_classes(loss, label, values, where) for loss in losses)
