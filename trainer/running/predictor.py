"""A model asked about every example once, on all replicas.

`trainer.loop` predicts by it with the weights of the moment, `trainer.prediction` with those of a
run that is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.stream.batches import to_float

Tensors = dict[str, tf.Tensor]
Batch = tuple[Tensors, Tensors, tf.Tensor]  # inputs, targets, mask: see `pipeline.stream.batches`
MakeDataset = Callable[[tf.distribute.InputContext], tf.data.Dataset]


class Predictor:
    """A model that was built under a strategy."""

    def __init__(self, strategy: tf.distribute.Strategy, model: Any) -> None:
        self._strategy, self._model = strategy, model
        self._input_names = tuple(model.input)
        self._step = tf.function(self._run_step)

    def predict(self, make: MakeDataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """int64 [N] rows and float32 [N, L] logits of every example whose mask is above 0.

        In the order of the datasets that `make` gives, which are padded to whole global batches.
        """
        batches = self._strategy.distribute_datasets_from_function(make)
        # Read once all are under way: a device is not waited for batch by batch.
        outputs = [self._step(batch) for batch in batches]
        rows, masks, logits = (np.concatenate(column) for column in zip(*outputs, strict=True))
        return rows[masks > 0], logits[masks > 0]

    def replica_step(
        self, inputs: Tensors, targets: Tensors, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rows, masks and logits of a replica's batch."""
        named = with_float_image(inputs)
        logits = self._model({name: named[name] for name in self._input_names}, training=False)
        return inputs["row"], mask, logits["target"]

    def _run_step(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows, masks, logits = (
            tf.concat(self._strategy.experimental_local_results(values), axis=0)
            for values in self._strategy.run(self.replica_step, args=batch)
        )
        return rows, masks, logits


def with_float_image(inputs: Tensors) -> Tensors:
    """Images travel as uint8, a quarter of the bytes, and are float32 in [0, 1] from here on."""
    if inputs["image"].dtype != tf.uint8:
        return inputs
    return {**inputs, "image": to_float(inputs["image"])}
