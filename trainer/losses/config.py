"""Which losses there are, what `[[loss]]` may say of them, and how one is computed.

Read it through `trainer.losses`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SettingsError
from pipeline.records.label import LabelInfo
from trainer.kinds import Rule, check_kind, own_settings
from trainer.losses import formulas

if TYPE_CHECKING:
    import tensorflow as tf

Over = Literal["sigmoid", "softmax"]
ClassWeights = tuple[float, ...] | tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossKind:
    """A line of `LOSSES`: the formula, what it is a formula of, its settings and their defaults."""

    formula: Callable[..., tf.Tensor]
    over: Over  # softmax: one class of several is true
    settings: dict[str, Any]


_PLAIN = {"label_smoothing": 0.0, "class_weights": None}
_FOCAL = {"gamma": 2.0, "alpha": None, **_PLAIN}
_ASYMMETRIC = {
    "gamma_positive": 0.0,
    "gamma_negative": 4.0,
    "clip": 0.05,
    "class_weights": None,
}

LOSSES = {
    "bce": LossKind(formula=formulas.sigmoid_focal, over="sigmoid", settings=_PLAIN),
    "ce": LossKind(formula=formulas.softmax_focal, over="softmax", settings=_PLAIN),
    "sigmoid_focal": LossKind(formula=formulas.sigmoid_focal, over="sigmoid", settings=_FOCAL),
    "softmax_focal": LossKind(formula=formulas.softmax_focal, over="softmax", settings=_FOCAL),
    "asymmetric": LossKind(formula=formulas.asymmetric, over="sigmoid", settings=_ASYMMETRIC),
    "sigmoid_f1": LossKind(formula=formulas.sigmoid_f1, over="sigmoid", settings={}),
    "softmax_f1": LossKind(formula=formulas.softmax_f1, over="softmax", settings={}),
}

# For a recipe that serves every label: what `fit_loss` makes of them.
LABEL_LOSSES: dict[str, dict[Over, str]] = {
    "cross_entropy": {"sigmoid": "bce", "softmax": "ce"},
    "focal": {"sigmoid": "sigmoid_focal", "softmax": "softmax_focal"},
    "soft_f1": {"sigmoid": "sigmoid_f1", "softmax": "softmax_f1"},
}

_TAKES = {
    **{name: LOSSES[fitted["sigmoid"]].settings for name, fitted in LABEL_LOSSES.items()},
    **{name: kind.settings for name, kind in LOSSES.items()},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """`[[loss]]`: one term of the training loss, on one head.

    `cross_entropy`, `focal` and `soft_f1` serve every label: over a softmax of its classes if it is
    multiclass, else over a sigmoid each. The focal ones with `gamma = 0` and no alpha are the
    cross-entropies. `soft_f1` is of a whole batch: it wants batches with positives in them.

    `alpha` and `class_weights` both balance classes. `alpha` is the paper's: the weight of
    positives, 1 - alpha that of negatives, over sigmoids; one weight a class over a softmax.
    `class_weights` is a weight a class of a multiclass label, [negative, positive] of a binary one,
    such a pair an output of a multilabel one; or `"balanced"`, n / (k n_c) of the training part.
    """

    kind: str = "cross_entropy"
    head: str = "target"
    weight: float = 1.0
    label_smoothing: float | None = None
    class_weights: ClassWeights | str | None = None
    alpha: float | tuple[float, ...] | None = None
    gamma: float | None = None
    gamma_positive: float | None = None
    gamma_negative: float | None = None
    clip: float | None = None  # the probability up to which a negative costs nothing

    def __post_init__(self) -> None:
        check_kind(self, _TAKES, _RULES)
        if self.alpha is not None and self.class_weights is not None:
            raise ValueError("alpha and class_weights must not be given together, got both")

    def own_settings(self) -> dict[str, Any]:
        """The settings that the kind takes, defaults filled in."""
        return own_settings(self, _TAKES[self.kind])


def fit_loss(config: LossConfig, label: LabelInfo, where: str) -> LossConfig:
    """The loss as it runs on this label, its defaults written out.

    `cross_entropy`, `focal` and `soft_f1` become what they are on it.

    Raises:
      SettingsError: the loss, or a weight of its classes, does not fit the label.
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
    _check_alpha(config.alpha, over, len(label.classes), where)
    if isinstance(config.class_weights, tuple):
        _check_class_weights(config.class_weights, label, where)
    return dataclasses.replace(config, **config.own_settings())


def example_losses(
    config: LossConfig, logits: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
    """[B, L] logits, [B] or [B, L] targets, [B] mask -> float32 [B], 0 where unknown.

    Logits of any float dtype are cast to float32. Targets are class indices (int64 [B]) or a
    probability a class (float32 [B, L]); -1 is unknown. The mask is a weight of 0 or more. The loss
    of a batch is the sum over its examples by their number, that of a whole-batch loss too.
    """
    import tensorflow as tf

    kind, settings = LOSSES[config.kind], config.own_settings()
    assert settings.get("class_weights") != "balanced"  # `balance_classes` makes numbers of it
    logits = tf.cast(logits, tf.float32)
    if kind.over == "softmax" and targets.dtype.is_integer:
        is_known = (targets >= 0)[:, None]
        targets = tf.one_hot(targets, logits.shape[-1])
    else:
        targets = tf.reshape(tf.cast(targets, tf.float32), tf.shape(logits))
        is_known = targets >= 0
        if kind.over == "softmax":
            is_known = tf.reduce_all(is_known, axis=-1, keepdims=True)
    weights = tf.cast(is_known, tf.float32) * tf.cast(mask, tf.float32)[:, None]
    return kind.formula(logits, tf.maximum(targets, 0.0), weights, **settings)


def _check_alpha(alpha: Any, over: Over, classes: int, where: str) -> None:
    if alpha is None:
        return
    if over == "sigmoid" and isinstance(alpha, tuple):
        raise SettingsError(f"{where}: loss.alpha must be one number, got {list(alpha)}")
    if over == "softmax" and (isinstance(alpha, float) or len(alpha) != classes):
        got = alpha if isinstance(alpha, float) else list(alpha)
        raise SettingsError(f"{where}: loss.alpha must be a list of {classes} weights, got {got}")


def _check_class_weights(given: ClassWeights, label: LabelInfo, where: str) -> None:
    classes, has_pairs = len(label.classes), any(isinstance(weight, tuple) for weight in given)
    if len(given) != classes or has_pairs != (label.kind == "multilabel"):
        what = {
            "binary": "a weight of negatives and one of positives",
            "multiclass": f"{classes} weights, one a class",
            "multilabel": f"{classes} pairs, the weights of an output's negatives and positives",
        }[label.kind]
        got = [list(weight) if isinstance(weight, tuple) else weight for weight in given]
        raise SettingsError(f"{where}: loss.class_weights must be {what}, or 'balanced', got {got}")


def _are_weights(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_are_weights, value))
    return isinstance(value, float) and 0 <= value < math.inf


_NOT_NEGATIVE: Rule = ("0 or more and finite", lambda value: 0 <= value < math.inf)
_RULES: dict[str, Rule] = {
    "head": ("'target', the one head there is", lambda head: head == "target"),
    "weight": _NOT_NEGATIVE,
    "label_smoothing": ("in [0, 1)", lambda share: 0 <= share < 1),
    "class_weights": (
        "'balanced', or weights of 0 or more",
        lambda value: value == "balanced" or (isinstance(value, tuple) and _are_weights(value)),
    ),
    "alpha": (
        "in (0, 1), or weights of 0 or more",
        lambda value: _are_weights(value) if isinstance(value, tuple) else 0 < value < 1,
    ),
    "gamma": _NOT_NEGATIVE,
    "gamma_positive": _NOT_NEGATIVE,
    "gamma_negative": _NOT_NEGATIVE,
    "clip": ("in [0, 1)", lambda share: 0 <= share < 1),
}
