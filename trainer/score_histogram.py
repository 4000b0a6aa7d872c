"""A running AUC: how many positives and negatives scored how high, summed on the device.

`trainer.loop` adds up one histogram a call of steps; whoever shows progress adds calls up and asks
`streaming_auc`. The exact figures of a run come from gathered predictions (`trainer.metrics`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.predictions import positive_places
from pipeline.records.label import LabelInfo

# By logit, not by probability: a rare class's probabilities crowd near 0. At 20 bins a unit the AUC
# of 2,000 normal scores is within 0.001 of the exact one (see its test).
BINS = 480
LARGEST_LOGIT = 12.0


def is_scored(label: LabelInfo) -> bool:
    """Whether an example of this label has one score: that of being positive."""
    return label.kind == "binary" or (label.kind == "multiclass" and bool(label.positive))


def score_histogram(
    label: LabelInfo, logits: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """float32 [B, L] logits, int64 [B] or float32 [B, L] targets, [B] mask -> float32 [2, BINS].

    Counts by logit of the positive probability: of negatives, then of positives (from 0.5 on, where
    a target is soft). Masked and unknown examples and logits that are NaN are not counted. For a
    label with one score (`is_scored`).
    """
    if label.kind == "binary":
        logit, truth = logits[:, 0], tf.cast(tf.reshape(targets, [-1]), tf.float32)
    else:
        positive = positive_places(label)
        others = [place for place in range(len(label.classes)) if place not in positive]
        logit = _log_sum(logits, positive) - _log_sum(logits, others)
        if targets.dtype.is_integer:
            is_known = targets >= 0
            targets = tf.one_hot(targets, len(label.classes))
        else:
            is_known = tf.reduce_all(targets >= 0, axis=1)
        truth = tf.where(is_known, tf.reduce_sum(tf.gather(targets, positive, axis=1), axis=1), -1)
    is_counted = tf.cast((truth >= 0) & (mask > 0), tf.float32)
    scaled = (tf.clip_by_value(logit / LARGEST_LOGIT, -1, 1) + 1) / 2 * (BINS - 1)
    row = tf.cast(truth >= 0.5, tf.int32)
    # A sum of one-hot rows, for XLA has no histogram and a TPU is slow at scattering.
    counts = tf.one_hot(row * BINS + tf.cast(tf.round(scaled), tf.int32), 2 * BINS)
    return tf.reshape(tf.reduce_sum(counts * is_counted[:, None], axis=0), [2, BINS])


def _log_sum(logits: tf.Tensor, places: list[int]) -> tf.Tensor:
    """float32 [B]: the logarithm of the summed exponentials of some classes."""
    return tf.reduce_logsumexp(tf.gather(logits, places, axis=1), axis=1)


def streaming_auc(scores: npt.NDArray[np.floating]) -> float:
    """[2, BINS] of `score_histogram` -> the AUC, ties within a bin counted half; or NaN.

    NaN where one of the two classes is absent.
    """
    negatives, positives = np.asarray(scores, np.float64)
    pairs = negatives.sum() * positives.sum()
    if not pairs:
        return float("nan")
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)
