"""The logits of one fold for every view of some parts; the half that needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline.stream.batches import evaluation_batches
from pipeline.stream.damage import naming_damage
from pipeline.stream.records import Records
from pipeline.stream.views import View
from trainer.precision import Precision
from trainer.prediction.assign import Assignment
from trainer.prediction.average import Outputs
from trainer.running.predictor import Predictor
from trainer.trained_run import TrainedRun


def predict_fold(
    run: TrainedRun,
    assigned: Assignment,
    views: Sequence[View],
    records: Records,
    rows: pd.DataFrame,
    *,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    precision: Precision,
) -> Outputs:
    """Every example of the assigned parts once, by the weights that made the fold's predictions.

    A step takes the views of as many examples as `batch_size` images are, one a replica at least.
    """
    tf.keras.backend.clear_session()  # also frees the last fold's graph
    with strategy.scope():
        model = run.load(assigned.number, precision).model
    encoder = run.encoder(assigned.number)
    metadata = encoder.encode_by_row(rows) if encoder else None
    replicas = strategy.num_replicas_in_sync
    examples = max(batch_size // len(views) // replicas, 1) * replicas
    with naming_damage(records, assigned.parts):
        found, logits = Predictor(strategy, model).predict(
            lambda context: evaluation_batches(
                records,
                assigned.parts,
                batch_size=examples,
                image_size_px=run.size_px,
                metadata=metadata,
                views=views,
                cache="none",  # read once
                context=context,
            )
        )
    by_view = found.reshape(-1, len(views))
    assert (by_view == by_view[:, :1]).all()
    order = np.argsort(by_view[:, 0])
    outputs = logits.reshape(len(order), len(views), -1)[order]
    return Outputs(rows=by_view[order, 0], logits=outputs)
