"""Gradient accumulation: a step of the optimizer from several batches that fit one at a time.

`trainer.loop` gives each batch's gradients to `add`, the last batch's to `take`, and what `take`
returns to clipping and the optimizer. So the optimizer's `iterations`, and with it the schedule,
counts applied steps, and there is no branch in the step: under several replicas an optimizer cannot
be called inside a `tf.cond`.

The sums are each replica's own: only what is applied travels between replicas. BatchNorm sees the
single batches, its moving statistics move at each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class Accumulator:
    """The sums of gradients over `steps` batches; make it in the strategy's scope.

    Between two `take`s of the loop all sums are 0: a checkpoint made there need not hold them.
    """

    def __init__(self, variables: Sequence[Any], steps: int) -> None:
        self.steps = steps
        self._sums = [
            tf.Variable(
                tf.zeros(variable.shape, variable.dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name="gradient_sum",
            )
            for variable in variables
        ]

    def add(self, gradients: Sequence[tf.Tensor]) -> None:
        """Adds this replica's gradients of one batch; in a replica, the first `steps - 1` times."""
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)

    def take(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The mean over these and the added gradients, as of one batch `steps` times as large.

        In a replica; the sums begin at 0 again.
        """
        means = [
            (total + gradient) / self.steps
            for total, gradient in zip(self._sums, gradients, strict=True)
        ]
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        return means
