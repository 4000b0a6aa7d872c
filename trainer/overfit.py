"""`--overfit 64`: can this network learn at all, fed by this stream?

A few images of a fold's training part are trained on, again and again, without anything that keeps
a network from knowing them by heart. A wrong label column, a frozen layer, a dead loss or a rate a
hundredfold too high shows within a minute, before hours are spent. `trainer.task` calls `overfit`.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.predictions import make_predictions
from pipeline.records.label import LabelInfo
from pipeline.stream.batches import TrainingStream, evaluation_batches
from trainer.config import Config
from trainer.folds import FoldParts
from trainer.metrics import evaluate
from trainer.running.course import course_of
from trainer.running.setup import Run, build_loop, fit_encoder, made_once
from trainer.running.state import Stage
from trainer.schedules import ScheduleConfig

STEPS = 300
CHECK_EVERY = 25  # steps
WANTED = 0.99


def overfit(run: Run, fold: FoldParts, *, images: int) -> int:
    """0 if the model comes to know so many images within 300 steps, else 1; writes nothing.

    It knows them by its accuracy (of several labels an image: by its AUC) as it predicts, BatchNorm
    by its moving statistics.
    """
    label = run.records.manifest.label
    rows = choose_rows(run.rows[run.rows["part"].isin(fold.train)], label, images)
    config = without_restraint(run.config, len(rows), run.strategy.num_replicas_in_sync)
    for table, is_given in (("[[stage]]", run.config.stage), ("init", run.config.init)):
        if is_given:
            print(f"--overfit leaves {table} out: all of a new network trains", flush=True)
    run = dataclasses.replace(run, config=config, ops=())
    encoder = fit_encoder(run, fold)
    metadata = encoder.encode_by_row(run.rows) if encoder else None
    reading: dict[str, Any] = {
        "batch_size": config.train.batch_size,
        "image_size_px": config.data.image_size_px,
        "metadata": metadata,
        "rows": rows,
        "cache": "memory",
    }
    stream = TrainingStream(run.records, fold.train, seed=config.train.seed, **reading)
    loop = build_loop(run, fold, course_of(config, STEPS, Stage()), metadata)
    for layer in loop.model.layers:  # those of the backbone as well: EfficientNet's drop-connect
        if isinstance(layer, tf.keras.layers.Dropout):
            layer.rate = 0.0
    read_again = made_once(
        lambda context: evaluation_batches(run.records, fold.train, context=context, **reading)
    )
    iterator = loop.iterate(lambda context: stream.epoch(context=context).repeat())
    rate = config.optimizer.learning_rate
    figure = "AUC" if label.kind == "multilabel" else "accuracy"
    for step in range(0, STEPS, CHECK_EVERY):
        losses = loop.train(iterator, step, CHECK_EVERY).losses
        known, logits = loop.predict(read_again)
        score = _score(run, known, logits)
        print(
            f"step {step + CHECK_EVERY:>3}/{STEPS}  loss {losses.mean():.4f}  {figure} "
            f"{score:.4f} of {len(rows)} images  learning rate {rate:.3g}",
            flush=True,
        )
        if score >= WANTED:
            print(f"the network can learn: {figure} {score:.4f} at step {step + CHECK_EVERY}")
            return 0
    print(
        f"the network did not learn {len(rows)} images: {figure} must reach {WANTED} in {STEPS} "
        f"steps, got {score:.4f} at learning rate {rate:.3g}; look at images and labels "
        "(preview.html beside the records), then try another optimizer.learning_rate"
    )
    return 1


def choose_rows(rows: pd.DataFrame, label: LabelInfo, images: int) -> list[int]:
    """`images` row numbers, taken from the classes in turn, each class's in order of row.

    Of several labels an image, each label is a class, and so is none of them. Rows of an unknown
    target are left out.

    Raises:
      SettingsError: there are not so many, or they are of one class.
    """
    queues = [rows.loc[mask, "row"].sort_values().tolist() for mask in _class_masks(rows, label)]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    known = list(dict.fromkeys(row for row in in_turn if row is not None))
    chosen = known[:images]
    if images < 2 or len(chosen) < images:
        raise SettingsError(
            f"--overfit must be from 2 to the {len(known)} training images with a label, "
            f"got {images}"
        )
    if sum(bool({*queue} & {*chosen}) for queue in queues) < 2:
        raise SettingsError("--overfit: the training part must hold two classes, got one")
    return chosen


def without_restraint(config: Config, images: int, replicas: int) -> Config:
    """The recipe at its peak rate, without stages, weight decay, averages and accumulation."""
    batch_size = min(config.train.batch_size, images // replicas * replicas)
    return dataclasses.replace(
        config,
        optimizer=dataclasses.replace(
            config.optimizer, weight_decay=None, accumulate_steps=1, ema_decay=None
        ),
        schedule=ScheduleConfig(kind="constant"),
        stage=(),
        train=dataclasses.replace(
            config.train, epochs=1, batch_size=batch_size, steps_per_call=CHECK_EVERY
        ),
    )


def _class_masks(rows: pd.DataFrame, label: LabelInfo) -> list[npt.NDArray[np.bool_]]:
    """bool [N] a class: which rows are of it."""
    targets = np.array(rows["target"].tolist())
    if label.kind != "multilabel":
        return [np.asarray(targets == index) for index in range(len(label.classes))]
    is_known = np.asarray((targets >= 0).all(axis=1))
    is_of = is_known[:, None] & (targets >= 0.5)
    return [*is_of.T, is_known & ~is_of.any(axis=1)]


def _score(run: Run, rows: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> float:
    """Accuracy, or of several labels the mean AUC."""
    label = run.records.manifest.label
    keys = run.rows.set_index("row", drop=False).loc[rows].assign(fold=-1)
    if label.kind == "multilabel":
        probs = tf.sigmoid(logits).numpy()
        return evaluate(make_predictions(keys, logits, probs, label, {}))["auc"]
    guess = logits[:, 0] > 0 if label.kind == "binary" else logits.argmax(axis=1)
    return float((guess == keys["target"].to_numpy()).mean())
