"""Losses by name: float32 logits, targets and mask in, one loss an example out.

`trainer.config` fits each `[[loss]]` entry to the records' label (`fit_loss`), `trainer.loop` sums
them, each times its weight. A masked example and a target of -1 add nothing, neither to the loss
nor to a gradient. All are computed from log-probabilities, so a logit of +-100 gives neither an
infinity nor a NaN. TensorFlow is imported where it is first needed: the config check reads `LOSSES`
before that import's 4 s.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pipeline.errors import SettingsError
from pipeline.records.label import LabelInfo
from pipeline.settings import nearest

if TYPE_CHECKING:
    import tensorflow as tf


Over = Literal["sigmoid", "softmax"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossKind:
    """A line of `LOSSES`: the formula, and what it is a formula of."""

    formula: Callable[[LossConfig, tf.Tensor, tf.Tensor], tf.Tensor]
    over: Over  # softmax: one class of several is true
    is_focal: bool  # takes alpha and gamma


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """`[[loss]]`: one term of the training loss, on one head.

    `cross_entropy` and `focal` serve every label: over a softmax of its classes if it is
    multiclass, else over a sigmoid each. `alpha` balances classes: the weight of positives, 1 -
    alpha that of negatives, over sigmoids; one weight a class over a softmax. The focal ones with
    `gamma = 0` and no alpha are the cross-entropies.
    """

    kind: str = "cross_entropy"
    head: str = "target"
    weight: float = 1.0
    alpha: float | tuple[float, ...] | None = None
    gamma: float | None = None  # of the focal losses only; None is their paper's 2
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        known = {**LABEL_LOSSES, **LOSSES}
        if self.kind not in known:
            raise ValueError(f"unknown kind {self.kind!r}; {nearest(self.kind, known)}")
        if self.head != "target":
            raise ValueError(f"head must be 'target', the one head there is, got {self.head!r}")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be 0 or more and finite, got {self.weight}")
        fitted = LABEL_LOSSES[self.kind]["sigmoid"] if self.kind in LABEL_LOSSES else self.kind
        if not LOSSES[fitted].is_focal and (self.alpha, self.gamma) != (None, None):
            raise ValueError(f"alpha and gamma belong to focal losses, got them for {self.kind!r}")
        if self.gamma is not None and not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be 0 or more and finite, got {self.gamma}")
        if isinstance(self.alpha, float) and not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")
        if isinstance(self.alpha, tuple) and not all(0 <= a < math.inf for a in self.alpha):
            raise ValueError(f"alpha must be weights of 0 or more, got {list(self.alpha)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")


def fit_loss(config: LossConfig, label: LabelInfo, where: str) -> LossConfig:
    """The loss as it runs on this label: `focal` and `cross_entropy` become what they are on it.

    Raises:
      SettingsError: the loss, or its alpha, does not fit the label.
    """
    over: Over = "softmax" if label.kind == "multiclass" else "sigmoid"
    if config.kind in LABEL_LOSSES:
        config = dataclasses.replace(config, kind=LABEL_LOSSES[config.kind][over])
    if LOSSES[config.kind].over != over:
        fitting = ", ".join(
            [*LABEL_LOSSES, *(name for name, kind in LOSSES.items() if kind.over == over)]
        )
        raise SettingsError(
            f"{where}: loss.kind must be one of {fitting} for a {label.kind} label, "
            f"got {config.kind!r}"
        )
    alpha, classes = config.alpha, len(label.classes)
    if (
        over == "softmax"
        and alpha is not None
        and (isinstance(alpha, float) or len(alpha) != classes)
    ):
        raise SettingsError(f"{where}: loss.alpha must be a list of {classes} weights, got {alpha}")
    if over == "sigmoid" and isinstance(alpha, tuple):
        raise SettingsError(f"{where}: loss.alpha must be one number, got {list(alpha)}")
    return config


def example_losses(
    config: LossConfig, logits: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """float32 [B, L] logits, [B] or [B, L] targets, [B] mask -> float32 [B], 0 where unknown.

    Targets are class indices (int64 [B]) or a probability a class (float32 [B, L]). Several
    sigmoids of one example are averaged; a -1 among them counts as 0 in that average.
    """
    return LOSSES[config.kind].formula(config, logits, targets) * mask


def sigmoid_focal(config: LossConfig, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """FL = -alpha_t (1 - p_t)^gamma log p_t by logit: Lin et al. 2017 (arXiv 1708.02002, eq. 5).

    A soft target z mixes the losses of 1 and 0 as z and 1 - z, which for gamma 0 is cross-entropy.
    """
    import tensorflow as tf

    gamma, alpha = _gamma(config), config.alpha
    assert not isinstance(alpha, tuple)  # `fit_loss` has refused it
    targets = tf.cast(tf.reshape(targets, tf.shape(logits)), tf.float32)
    is_known = tf.cast(targets >= 0, tf.float32)
    soft = targets * (1 - config.label_smoothing) + config.label_smoothing / 2
    log_p, log_not_p = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    of_positive = -tf.exp(gamma * log_not_p) * log_p
    of_negative = -tf.exp(gamma * log_p) * log_not_p
    weight_1, weight_0 = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    loss = weight_1 * soft * of_positive + weight_0 * (1 - soft) * of_negative
    return tf.reduce_mean(loss * is_known, axis=-1)


def softmax_focal(config: LossConfig, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """FL = -sum_c z_c alpha_c (1 - p_c)^gamma log p_c, the same paper's loss over a softmax."""
    import tensorflow as tf

    gamma, classes = _gamma(config), logits.shape[-1]
    if targets.dtype.is_integer:
        is_known = tf.cast(targets >= 0, tf.float32)
        targets = tf.one_hot(targets, classes)
    else:
        is_known = tf.cast(tf.reduce_all(targets >= 0, axis=-1), tf.float32)
    soft = targets * (1 - config.label_smoothing) + config.label_smoothing / classes
    log_p = tf.nn.log_softmax(logits)
    # 1 - p without cancellation; the floor keeps a power below 1 from an infinite gradient at p =
    # 1.
    not_p = tf.maximum(-tf.math.expm1(log_p), 1e-12)
    alpha = 1.0 if config.alpha is None else tf.constant(config.alpha, tf.float32)
    return -tf.reduce_sum(soft * alpha * not_p**gamma * log_p, axis=-1) * is_known


def _gamma(config: LossConfig) -> float:
    if not LOSSES[config.kind].is_focal:
        return 0.0
    return 2.0 if config.gamma is None else config.gamma


LOSSES = {
    "bce": LossKind(formula=sigmoid_focal, over="sigmoid", is_focal=False),
    "ce": LossKind(formula=softmax_focal, over="softmax", is_focal=False),
    "sigmoid_focal": LossKind(formula=sigmoid_focal, over="sigmoid", is_focal=True),
    "softmax_focal": LossKind(formula=softmax_focal, over="softmax", is_focal=True),
}

# For a recipe that serves every label: what `fit_loss` makes of them.
LABEL_LOSSES: dict[str, dict[Over, str]] = {
    "cross_entropy": {"sigmoid": "bce", "softmax": "ce"},
    "focal": {"sigmoid": "sigmoid_focal", "softmax": "softmax_focal"},
}
