"""Optimizers by name, and the global clipping that a distributed step needs.

`trainer.config` resolves the rate once (`OptimizerConfig.resolved`), `trainer.fold_run` builds one
optimizer a fold, in the strategy's scope. Its step s runs at `rates[s] * rate_fraction`: the table
is `trainer.schedules`', and `rate_fraction` a variable on the optimizer, 1 until somebody (the
plateau schedule) assigns it, which compiles nothing anew and is saved with the optimizer.
TensorFlow is imported where it is first needed: the config check reads `OPTIMIZERS` before that
import's 4 s.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer.kinds import Rule, check_kind, own_settings

if TYPE_CHECKING:
    import tensorflow as tf

PER_256 = 256  # examples; the batch that `learning_rate_per_256` is a rate for


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerKind:
    """A line of `OPTIMIZERS`: a class of `tf.keras.optimizers`, its settings and what is fixed."""

    keras_class: str
    settings: dict[str, float] = dataclasses.field(default_factory=dict)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)


_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

OPTIMIZERS = {
    "adam": OptimizerKind(keras_class="Adam", settings=_ADAM),
    "adamw": OptimizerKind(keras_class="AdamW", settings=_ADAM),
    "sgd": OptimizerKind(keras_class="SGD"),
    "momentum": OptimizerKind(
        keras_class="SGD", settings={"momentum": 0.9}, fixed={"nesterov": True}
    ),
    # As EfficientNet was trained: Tan and Le 2019 (arXiv 1905.11946, section 5.2).
    "rmsprop": OptimizerKind(
        keras_class="RMSprop", settings={"rho": 0.9, "momentum": 0.9, "epsilon": 1e-3}
    ),
}

_DECAY: Rule = ("in [0, 1)", lambda decay: 0 <= decay < 1)
_POSITIVE: Rule = ("above 0 and finite", lambda value: 0 < value < math.inf)
_RULES: dict[str, Rule] = {
    "learning_rate": _POSITIVE,
    "weight_decay": ("0 or more and finite", lambda decay: 0 <= decay < math.inf),
    "clip_norm": _POSITIVE,
    "accumulate_steps": ("1 or more", lambda steps: steps >= 1),
    "ema_decay": _DECAY,
    "beta_1": _DECAY,
    "beta_2": _DECAY,
    "momentum": _DECAY,
    "rho": _DECAY,
    "epsilon": _POSITIVE,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """`[optimizer]`: `learning_rate` is the peak that `[schedule]` scales.

    `OPTIMIZERS` says which kind takes which of the last five, and their defaults.
    """

    kind: str = "adamw"
    learning_rate: float = 1e-3
    learning_rate_per_256: bool = False  # times (examples an applied step) / 256
    weight_decay: float | None = None  # decoupled, times the learning rate, on kernels only
    clip_norm: float | None = None  # of all gradients together, after the sum over replicas
    accumulate_steps: int = 1  # batches whose mean gradient is applied at once
    ema_decay: float | None = None  # of the average of the weights that predicts
    beta_1: float | None = None
    beta_2: float | None = None
    momentum: float | None = None
    rho: float | None = None  # of the mean square
    epsilon: float | None = None

    def __post_init__(self) -> None:
        check_kind(self, {name: kind.settings for name, kind in OPTIMIZERS.items()}, _RULES)

    def own_settings(self) -> dict[str, Any]:
        """The settings that the kind takes, defaults filled in."""
        return own_settings(self, OPTIMIZERS[self.kind].settings)

    def resolved(self, batch_size: int) -> OptimizerConfig:
        """The optimizer as it runs: defaults written out, `learning_rate` of the real batch.

        `batch_size` is the global one. A rate per 256 examples grows linearly with the examples of
        an applied step: Goyal et al. 2017 (arXiv 1706.02677). Resolving twice changes nothing.
        """
        scale = batch_size * self.accumulate_steps / PER_256 if self.learning_rate_per_256 else 1.0
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate * scale,
            learning_rate_per_256=False,
            **self.own_settings(),
        )


def build_optimizer(
    config: OptimizerConfig,
    rates: npt.NDArray[np.float32],
    variables: Sequence[Any],
    factors: Sequence[float] = (),
) -> Any:
    """A Keras optimizer whose step s runs at `rates[s] * rate_fraction`, slots for `variables`.

    `factors`, one a variable, multiply that rate, and the weight decay with it. Where they differ,
    it is an optimizer a factor, and one object that looks like one. To be called in the strategy's
    scope. `config` is resolved.
    """
    import tensorflow as tf

    rate_fraction = tf.Variable(1.0, trainable=False, name="rate_fraction")
    places: dict[float, list[int]] = {}
    for place, factor in enumerate(factors or [1.0] * len(variables)):
        places.setdefault(factor, []).append(place)
    optimizers = [
        _build(config, rates * np.float32(factor), rate_fraction, [variables[n] for n in own])
        for factor, own in places.items()
    ]
    if len(optimizers) == 1:
        [optimizer] = optimizers
        optimizer.rate_fraction = rate_fraction
        return optimizer

    class Grouped(tf.Module):
        """Optimizers side by side, each of its own variables: Keras has one rate for all."""

        def __init__(self) -> None:
            super().__init__()
            self.optimizers, self.rate_fraction = optimizers, rate_fraction

        def apply_gradients(self, pairs: Iterable[tuple[Any, Any]]) -> None:
            pairs = list(pairs)  # in the order of `variables`
            for optimizer, own in zip(self.optimizers, places.values(), strict=True):
                optimizer.apply_gradients([pairs[n] for n in own])

    return Grouped()


def _build(
    config: OptimizerConfig,
    rates: npt.NDArray[np.float32],
    rate_fraction: tf.Variable,
    variables: Sequence[Any],
) -> Any:
    import tensorflow as tf

    assert not config.learning_rate_per_256  # `resolved` has multiplied

    class RateTable(tf.keras.optimizers.schedules.LearningRateSchedule):
        """The table as a schedule; past its end the last rate holds."""

        def __call__(self, step: Any) -> Any:
            place = tf.minimum(tf.cast(step, tf.int32), len(rates) - 1)
            return tf.gather(rates, place) * rate_fraction

        def get_config(self) -> dict[str, Any]:
            return {"rates": rates.tolist()}

    kind = OPTIMIZERS[config.kind]
    # AdamW alone decays by default; "off" is None here as everywhere.
    decay = 0.0 if config.weight_decay is None and config.kind == "adamw" else config.weight_decay
    optimizer = getattr(tf.keras.optimizers, kind.keras_class)(
        learning_rate=RateTable(), weight_decay=decay, **config.own_settings(), **kind.fixed
    )
    # A decayed bias or BatchNorm scale shrinks what normalisation has just set.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(variables)
    return optimizer


def clip_to_global_norm(gradients: list[tf.Tensor], clip_norm: float) -> list[tf.Tensor]:
    """This replica's gradients -> a share of their clipped sum over replicas.

    Keras clips before it sums over replicas, so its norm would depend on their number. Here the sum
    comes first; as Keras will sum once more, each replica hands over an equal share.
    """
    import tensorflow as tf

    replicas = tf.distribute.get_replica_context()
    summed = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    clipped, _ = tf.clip_by_global_norm(summed, clip_norm)
    return [gradient / replicas.num_replicas_in_sync for gradient in clipped]
