"""The training loop: K steps in one compiled call, each step once on every replica.

`trainer.fold_run` makes one `Loop` a fold. Not `Model.fit`: with Keras 3, several steps a call fail
there under several replicas (keras issue 19246), and several steps a call are what a TPU needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.losses import LossConfig, example_losses
from trainer.optimizers import clip_to_global_norm


class Loop:
    """Trains and predicts with one model on one strategy.

    A batch is `(inputs, targets, mask)`, a dataset's batch the global one: `batch_size` examples
    over all replicas.
    """

    def __init__(
        self,
        *,
        strategy: tf.distribute.Strategy,
        model: Any,
        optimizer: Any,
        losses: Sequence[LossConfig],
        batch_size: int,
        steps_per_call: int,
        clip_norm: float | None,
    ) -> None:
        self.strategy, self.model, self.optimizer = strategy, model, optimizer
        self.losses, self.clip_norm = tuple(losses), clip_norm
        self.batch_size, self.steps_per_call = batch_size, steps_per_call
        self._input_names = tuple(model.input)
        self._train_steps = tf.function(self._run_train_steps)
        self._predict_step = tf.function(self._run_predict_step)

    def train(self, batches: tf.data.Dataset, steps: int) -> float:
        """Takes `steps` batches and a step on each; the mean loss of these steps.

        Once the loss is no longer finite it stops and returns that.
        """
        iterator = iter(self.strategy.experimental_distribute_dataset(batches))
        total = 0.0
        for done in range(0, steps, self.steps_per_call):
            count = min(self.steps_per_call, steps - done)
            total += float(self._train_steps(iterator, tf.constant(count)))
            if not math.isfinite(total):
                break
        return total / steps

    def predict(
        self, batches: tf.data.Dataset
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """int64 [N] rows and float32 [N, L] logits of every example whose mask is 1."""
        rows, logits = [], []
        for batch in self.strategy.experimental_distribute_dataset(batches):
            row, mask, logit = (tensor.numpy() for tensor in self._predict_step(batch))
            rows.append(row[mask > 0])
            logits.append(logit[mask > 0])
        return np.concatenate(rows), np.concatenate(logits)

    def _run_train_steps(self, iterator: Any, steps: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(steps):
            losses = self.strategy.run(self._replica_step, args=next(iterator))
            total += self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return total

    def _replica_step(
        self, inputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], mask: tf.Tensor
    ) -> tf.Tensor:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(self._model_inputs(inputs), training=True)
            by_example = sum(
                term.weight * example_losses(term, logits[term.head], targets[term.head], mask)
                for term in self.losses
            )
            # By the global batch, for the optimizer sums the replicas' gradients.
            loss = tf.reduce_sum(by_example) / self.batch_size
        gradients = tape.gradient(loss, variables)
        if self.clip_norm is not None:
            gradients = clip_to_global_norm(gradients, self.clip_norm)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    def _run_predict_step(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def replica_step(
            inputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], mask: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            logits = self.model(self._model_inputs(inputs), training=False)["target"]
            return inputs["row"], mask, logits

        rows, masks, logits = (
            tf.concat(self.strategy.experimental_local_results(values), axis=0)
            for values in self.strategy.run(replica_step, args=batch)
        )
        return rows, masks, logits

    def _model_inputs(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: inputs[name] for name in self._input_names}
