"""The formulas of the losses, for `trainer.losses.config`, which lists them.

Each takes float32 [B, L] logits, float32 [B, L] targets in [0, 1] (a class index comes one-hot) and
float32 weights, 0 where the target is unknown or masked: [B, L] over sigmoids, [B, 1] over a
softmax. Each gives float32 [B] losses, weights applied. Several sigmoids of one example are
averaged; an unknown one counts as 0 in that average.

All are computed from log-probabilities, so a logit of +-100 gives neither an infinity nor a NaN.
TensorFlow is imported where it is first needed: the config check reads the table before that
import's 4 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

# Below it a probability counts as it: a power below 1 has an infinite slope at 0.
_SMALLEST = 1e-12


def sigmoid_focal(
    logits: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    gamma: float = 0.0,
    alpha: float | None = None,
    label_smoothing: float,
    class_weights: Sequence[float] | Sequence[Sequence[float]] | None,
) -> tf.Tensor:
    """FL = -alpha_t (1 - p_t)^gamma log p_t by logit: Lin et al. 2017 (arXiv 1708.02002, eq. 5).

    A soft target z mixes the losses of 1 and 0 as z and 1 - z, which for gamma 0 is cross-entropy.
    """
    import tensorflow as tf

    soft = targets * (1 - label_smoothing) + label_smoothing / 2
    log_p, log_not_p = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    of_positive = -tf.exp(gamma * log_not_p) * log_p
    of_negative = -tf.exp(gamma * log_p) * log_not_p
    if alpha is not None:
        of_positive, of_negative = alpha * of_positive, (1 - alpha) * of_negative
    return _mean_of_sigmoids(of_positive, of_negative, soft, weights, class_weights)


def softmax_focal(
    logits: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    gamma: float = 0.0,
    alpha: Sequence[float] | None = None,
    label_smoothing: float,
    class_weights: Sequence[float] | None,
) -> tf.Tensor:
    """FL = -sum_c z_c alpha_c (1 - p_c)^gamma log p_c, the same paper's loss over a softmax."""
    import tensorflow as tf

    soft = targets * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
    for by_class in (alpha, class_weights):
        if by_class is not None:
            soft *= tf.constant(by_class, tf.float32)
    log_p = tf.nn.log_softmax(logits)
    not_p = tf.maximum(-tf.math.expm1(log_p), _SMALLEST)  # 1 - p without cancellation
    return -tf.reduce_sum(soft * not_p**gamma * log_p * weights, axis=-1)


def asymmetric(
    logits: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    *,
    gamma_positive: float,
    gamma_negative: float,
    clip: float,
    class_weights: Sequence[float] | Sequence[Sequence[float]] | None,
) -> tf.Tensor:
    """ASL: -(1 - p)^g+ log p of a positive, -q^g- log(1 - q) with q = max(p - m, 0) of a negative.

    Ridnik et al. 2021 (arXiv 2009.14119, eq. 7); `clip` is m, below which a negative adds nothing.
    The paper sums over the outputs, here they are averaged as everywhere.
    """
    import tensorflow as tf

    log_p, log_not_p = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    of_positive = -tf.exp(gamma_positive * log_not_p) * log_p
    if clip:
        shifted = tf.maximum(tf.exp(log_p) - clip, _SMALLEST)
        log_not_shifted = tf.math.log(tf.minimum(tf.exp(log_not_p) + clip, 1.0))
        of_negative = -(shifted**gamma_negative) * log_not_shifted
    else:
        of_negative = -tf.exp(gamma_negative * log_p) * log_not_p
    return _mean_of_sigmoids(of_positive, of_negative, targets, weights, class_weights)


def sigmoid_f1(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """1 - macro F1 of the batch with probabilities for counts; every example bears that value."""
    import tensorflow as tf

    return _soft_f1(tf.sigmoid(logits), targets, weights)


def softmax_f1(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The same over a softmax, each class against the rest."""
    import tensorflow as tf

    return _soft_f1(tf.nn.softmax(logits), targets, weights)


def _soft_f1(probs: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """F1 = 2 sum(p z) / (sum p + sum z), averaged over the outputs with a positive in the batch.

    An output without one has an F1 of 0 whatever its probabilities: a constant without a gradient,
    and no 0 for perfect predictions. Under several replicas the batch is the replica's share; with
    gradient accumulation it is one of the accumulated ones.
    """
    import tensorflow as tf

    hits = tf.reduce_sum(weights * probs * targets, axis=0)
    positives = tf.reduce_sum(weights * targets, axis=0)
    f1 = tf.math.divide_no_nan(2 * hits, tf.reduce_sum(weights * probs, axis=0) + positives)
    has_positive = tf.cast(positives > 0, tf.float32)
    lacking = tf.math.divide_no_nan(
        tf.reduce_sum(has_positive * (1 - f1)), tf.reduce_sum(has_positive)
    )
    return lacking * tf.reduce_max(weights, axis=-1)


def _mean_of_sigmoids(
    of_positive: tf.Tensor,
    of_negative: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    class_weights: Sequence[float] | Sequence[Sequence[float]] | None,
) -> tf.Tensor:
    """The losses of 1 and 0 mixed by target, times their class weights, averaged over outputs."""
    import tensorflow as tf

    if class_weights is not None:
        by_class = tf.constant(class_weights, tf.float32)  # [2] or [L, 2]: of negatives, positives
        of_negative, of_positive = by_class[..., 0] * of_negative, by_class[..., 1] * of_positive
    loss = targets * of_positive + (1 - targets) * of_negative
    return tf.reduce_mean(loss * weights, axis=-1)
