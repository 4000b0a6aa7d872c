"""The training loop: K steps in one compiled call, each step once on every replica.

`trainer.fold_run` makes one `Loop` a fold. Not `Model.fit`: with Keras 3, several steps a call fail
there under several replicas (keras issue 19246), and several steps a call are what a TPU needs.

A step is a function of the weights, its batches and (seed, step, replica): every random number of
it is drawn from the latter, and nothing else is kept. So a run that goes on from a checkpoint takes
the steps that it would have taken.

`Loop.replica_step` and `Predictor.replica_step` are what a device compiles; `trainer.preflight` has
them compiled without one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.records.label import LabelInfo
from trainer.accumulate import Accumulator
from trainer.averaging import ExponentialAverage
from trainer.losses import LossConfig, example_losses
from trainer.models.dropout import dropout_seeded
from trainer.optimizers import clip_to_global_norm
from trainer.precision import LossScale, Precision
from trainer.running.predictor import Batch, MakeDataset, Predictor, Tensors, with_float_image
from trainer.score_histogram import BINS, is_scored, score_histogram

if TYPE_CHECKING:
    from pipeline.stream.augment.mix import Mix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """What one call of `Loop.train` did."""

    losses: npt.NDArray[np.float32]  # [steps], each the mean over the global batch
    seconds: float
    waited_seconds: float  # of them, for input
    scores: npt.NDArray[np.int64] | None  # [2, BINS], see `score_histogram`; None without one score


class Loop:
    """Trains and predicts with one model on one strategy.

    A dataset gives batches of one replica, `batch_size / replicas` examples each; as many as there
    are replicas make a global batch, and `accumulate` global batches a step of the optimizer.
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
        seed: int = 0,
        label: LabelInfo | None = None,  # for `Steps.scores`
        accumulate: int = 1,
        ema_decay: float | None = None,
        precision: Precision = "float32",
        mix: Mix | None = None,
        evaluation_model: Any = None,  # of another image size: predicts, with `model`'s weights
        jit_compile: bool = False,  # the step of one device; TPUs compile anyway
    ) -> None:
        self.strategy, self.model, self.optimizer = strategy, model, optimizer
        self.batch_size, self.steps_per_call = batch_size, steps_per_call
        self._losses, self._clip_norm = tuple(losses), clip_norm
        self._seed, self._accumulate, self._mix = seed, accumulate, mix
        self._predicting = model if evaluation_model is None else evaluation_model
        self._label = label if label is not None and is_scored(label) else None
        self._input_names = tuple(model.input)
        with strategy.scope():
            variables = model.trainable_variables
            self._sums = Accumulator(variables, accumulate) if accumulate > 1 else None
            self._average = (
                ExponentialAverage(_float32(model.weights), ema_decay) if ema_decay else None
            )
            self._loss_scale = LossScale() if precision == "float16" else None
        step = self.replica_step
        self._step = tf.function(step, jit_compile=True) if jit_compile else step
        # One operation in the caller's graph, as on a TPU the step is one anyway: else the clock
        # would be read somewhere among the step's own operations.
        is_one_op = isinstance(strategy, tf.distribute.TPUStrategy)
        whole = tf.function(self._run_step, experimental_attributes={"_noinline": True})
        self._whole_step = self._run_step if is_one_op else whole
        self._train_steps = tf.function(self._run_train_steps)
        self.predictor = Predictor(strategy, self._predicting)

    def iterate(self, make: MakeDataset) -> Any:
        """An iterator for `train` over the datasets that `make` gives, one an input pipeline.

        `make` is told which of how many pipelines it is, and gives batches of
        `context.get_per_replica_batch_size(batch_size)` examples.
        """
        return iter(self.strategy.distribute_datasets_from_function(make))

    def train(self, iterator: Any, first_step: int, steps: int) -> Steps:
        """Steps `first_step` to `first_step + steps - 1` in one call, `steps_per_call` at most.

        Takes `steps * accumulate` global batches. A loss may not be finite: look at `losses`.
        """
        start = time.perf_counter()
        losses, scores, waited = self._train_steps(
            iterator, tf.constant(first_step, tf.int64), tf.constant(steps)
        )
        losses = losses.numpy()  # on a device that runs behind, waits for it
        return Steps(
            losses=losses,
            seconds=time.perf_counter() - start,
            waited_seconds=float(waited),
            scores=scores.numpy().astype(np.int64) if self._label else None,
        )

    def predict(self, make: MakeDataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """int64 [N] rows and float32 [N, L] logits of every example whose mask is above 0.

        With the averaged weights where there are any. Datasets are padded to whole global batches.
        """
        averaged = self._average.swapped() if self._average else contextlib.nullcontext()
        with self.strategy.scope(), averaged:
            if self._predicting is not self.model:
                for copy, weight in zip(self._predicting.weights, self.model.weights, strict=True):
                    copy.assign(weight)
            return self.predictor.predict(make)

    def tracked(self) -> dict[str, Any]:
        """What a checkpoint must hold, by name, for training to go on after any call of `train`."""
        tracked = {"model": self.model, "optimizer": self.optimizer}
        if self._average:
            tracked["average"] = self._average.state
        if self._loss_scale:
            tracked["loss_scale"] = tf.train.Checkpoint(**vars(self._loss_scale))
        return tracked

    def carried(self) -> dict[str, Any]:
        """What of `tracked` the next stage takes over: all but the optimizer."""
        return {name: part for name, part in self.tracked().items() if name != "optimizer"}

    def _run_train_steps(
        self, iterator: Any, first_step: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        losses = tf.TensorArray(tf.float32, steps)
        scores, waited = tf.zeros([2, BINS]), tf.constant(0.0, tf.float64)
        for place in tf.range(steps):
            total = (tf.constant(0.0), scores, waited)
            batch = (first_step + tf.cast(place, tf.int64)) * self._accumulate
            if self._sums:
                for _ in tf.range(self._accumulate - 1):
                    total = self._take_batch(iterator, batch, total, is_last=False)
                    batch += 1
            loss, scores, waited = self._take_batch(iterator, batch, total, is_last=True)
            losses = losses.write(place, loss / self._accumulate)
        return losses.stack(), scores, waited

    def _take_batch(
        self, iterator: Any, number: tf.Tensor, total: Any, *, is_last: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Adds a global batch's loss, scores and seconds of waiting to `total`."""
        loss, scores, waited = total
        # After the batch before, or the wait would be hidden behind its computation.
        with tf.control_dependencies([loss, scores]):
            start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(iterator)
        with tf.control_dependencies(self._local_tensors(batch)):
            seconds = tf.timestamp() - start
        # Before the step begins: it may keep the only thread that could read the clock.
        with tf.control_dependencies([seconds]):
            number = tf.identity(number)
        more_loss, more_scores = self._whole_step(batch, number, is_last)
        return loss + more_loss, scores + more_scores, waited + seconds

    def _run_step(
        self, batch: Batch, number: tf.Tensor, is_last: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A global batch's loss and scores, from all replicas."""
        by_replica = self.strategy.run(self._step, args=(*batch, number, is_last))
        loss, scores = self.strategy.reduce("SUM", by_replica, axis=None)
        return loss, scores

    # Nothing in it needs conversion, which would go through the losses and the whole model.
    @tf.autograph.experimental.do_not_convert
    def replica_step(
        self, inputs: Tensors, targets: Tensors, mask: tf.Tensor, number: tf.Tensor, is_last: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A replica's whole step on its batch: its share of the loss, and its scores.

        `number` is the batch's; the last of `accumulate` batches moves the weights.
        """
        variables = self.model.trainable_variables
        mix_seed, dropout_seed = self._batch_seeds(number)
        inputs = with_float_image(inputs)
        if self._mix:
            inputs, targets, mask = self._mix(inputs, targets, mask, mix_seed)
        with tf.GradientTape() as tape:
            with dropout_seeded(dropout_seed):
                logits = self.model(self._model_inputs(inputs), training=True)
            by_example = sum(
                term.weight * example_losses(term, logits[term.head], targets[term.head], mask)
                for term in self._losses
            )
            # By the global batch, for the optimizer sums the replicas' gradients.
            loss = tf.reduce_sum(by_example) / self.batch_size
            scaled = loss * self._loss_scale.scale if self._loss_scale else loss
        gradients = tape.gradient(scaled, variables)
        if is_last:
            self._apply(gradients, variables)
        else:
            assert self._sums
            self._sums.add(gradients)
        scores = (
            score_histogram(self._label, logits["target"], targets["target"], mask)
            if self._label
            else tf.zeros([2, BINS])
        )
        return loss, scores

    def _apply(self, gradients: list[tf.Tensor], variables: Sequence[Any]) -> None:
        """One step of the optimizer, which sums these gradients over replicas."""
        if self._sums:
            gradients = self._sums.take(gradients)
        if self._loss_scale:
            replicas = tf.distribute.get_replica_context()
            summed = replicas.all_reduce("SUM", gradients)
            unscaled = self._loss_scale.unscale(summed)
            gradients = [gradient / replicas.num_replicas_in_sync for gradient in unscaled]
        if self._clip_norm is not None:
            gradients = clip_to_global_norm(gradients, self._clip_norm)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self._average:
            self._average.update()

    def _batch_seeds(self, number: tf.Tensor) -> list[tf.Tensor]:
        """Two int64 [2] seeds of (seed, batch number, replica): to mix and to drop out."""
        fold_in = functools.partial(tf.random.experimental.stateless_fold_in, alg="philox")
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = fold_in(tf.stack([tf.constant(self._seed, tf.int64), number]), replica)
        return [fold_in(seed, purpose) for purpose in range(2)]

    def _model_inputs(self, inputs: Tensors) -> Tensors:
        return {name: inputs[name] for name in self._input_names}

    def _local_tensors(self, batch: Batch) -> list[tf.Tensor]:
        """The tensors of every replica's batch."""
        return [
            tensor
            for value in tf.nest.flatten(batch)
            for tensor in self.strategy.experimental_local_results(value)
        ]


def _float32(variables: Sequence[Any]) -> list[Any]:
    """Those that can be averaged: not what a Normalization layer counts, nor its bfloat16 means."""
    return [variable for variable in variables if tf.as_dtype(variable.dtype) == tf.float32]
