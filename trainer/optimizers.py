"""Optimizers by name, and the global clipping that a distributed step needs.

`trainer.fold_run` builds one a fold. TensorFlow is imported where it is first needed: the config
check reads `OPTIMIZERS` before that import's 4 s.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.settings import nearest

if TYPE_CHECKING:
    import tensorflow as tf

# kind -> class in tf.keras.optimizers, its settings
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9, "nesterov": True}),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """`[optimizer]`: `learning_rate` is the peak that `[schedule]` scales."""

    kind: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float | None = None  # decoupled, times the learning rate, on kernels only
    clip_norm: float | None = None  # of all gradients together, after the sum over replicas

    def __post_init__(self) -> None:
        if self.kind not in OPTIMIZERS:
            raise ValueError(f"unknown kind {self.kind!r}; {nearest(self.kind, OPTIMIZERS)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more and finite, got {self.weight_decay}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm must be above 0 and finite, got {self.clip_norm}")


def build_optimizer(
    config: OptimizerConfig, rates: npt.NDArray[np.float32], variables: Sequence[Any]
) -> Any:
    """A Keras optimizer whose step s runs at `rates[s]`, its slots made for `variables`."""
    import tensorflow as tf

    class RateTable(tf.keras.optimizers.schedules.LearningRateSchedule):
        """The table as a schedule; past its end the last rate holds."""

        def __call__(self, step: Any) -> Any:
            return tf.gather(rates, tf.minimum(tf.cast(step, tf.int32), len(rates) - 1))

        def get_config(self) -> dict[str, Any]:
            return {"rates": rates.tolist()}

    name, settings = OPTIMIZERS[config.kind]
    # AdamW alone decays by default; "off" is None here as everywhere.
    decay = 0.0 if config.weight_decay is None and config.kind == "adamw" else config.weight_decay
    optimizer = getattr(tf.keras.optimizers, name)(
        learning_rate=RateTable(), weight_decay=decay, **settings
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
