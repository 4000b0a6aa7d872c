"""The model of a complete fold with the weights that made its predictions.

For `trainer.export` and `trainer.predict`, and for `trainer.stages` to start from another run. The
averaged weights where the recipe has them, the best ones where it keeps those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.errors import DataError
from trainer.averaging import ExponentialAverage
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.precision import Precision, set_precision
from trainer.running.checkpoints import Checkpoints, newest_weights


class CheckpointError(DataError):
    """A fold has no whole checkpoint that its predictions can be of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A Keras model, and where its weights come from."""

    model: Any
    step: int
    is_averaged: bool


def load_trained(
    config: ModelConfig,
    folder: str,
    digests: Mapping[str, str],
    precision: Precision = "float32",
    **sizes: int,
) -> Trained:
    """The model from a folder of checkpoints; `digests` are those of the fold's predictions.

    Its layers compute in `precision`, whatever they were trained in; `sizes` are `build_model`'s.

    Raises:
      CheckpointError: there is none, or it is of another training.
    """
    checkpoints = Checkpoints(folder, digests)
    state = checkpoints.newest()
    if state is None:
        raise CheckpointError(
            f"{folder}: the newest checkpoint must be whole and of the recipe and shards that the "
            "fold's predictions are of, got none such; train the fold again"
        )
    step = state.best.step if state.best else state.step
    stored = tf.train.load_checkpoint(newest_weights(folder))
    dtypes = stored.get_variable_to_dtype_map()
    is_averaged = any(name.startswith("average/") for name in dtypes)
    # A layer that computes in few bits may hold variables of such. Without, it holds those of
    # float32.
    low: dict[Any, Precision] = {tf.bfloat16: "bfloat16", tf.float16: "float16"}
    stored_as: Precision = next(
        (low[dtype] for dtype in dtypes.values() if dtype in low), "float32"
    )
    # All of the weights come from the checkpoint, the published ones included.
    config = dataclasses.replace(config, weights=None)

    set_precision(stored_as)
    try:
        model = build_model(config, **sizes)
        weights = _predicting_weights(checkpoints, step, model, is_averaged=is_averaged)
        if precision != stored_as:
            set_precision(precision)
            model = build_model(config, **sizes)
    finally:
        set_precision("float32")
    if precision == "float32":
        weights = [w.astype(np.float32) if w.dtype.itemsize == 2 else w for w in weights]
    model.set_weights(weights)
    return Trained(model=model, step=step, is_averaged=is_averaged)


def _predicting_weights(
    checkpoints: Checkpoints, step: int, model: Any, *, is_averaged: bool
) -> list[npt.NDArray[Any]]:
    if not is_averaged:
        checkpoints.restore(step, {"model": model})
        return list(model.get_weights())
    # Of the same variables as the loop's, in their order.
    variables = [weight for weight in model.weights if tf.as_dtype(weight.dtype) == tf.float32]
    average = ExponentialAverage(variables, decay=0.0)
    checkpoints.restore(step, {"model": model, "average": average.state})
    with average.swapped():
        return list(model.get_weights())
