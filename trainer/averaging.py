"""Exponential moving average of the weights, to evaluate, predict and export with.

`trainer.loop` makes one in the strategy's scope, calls `update` in the replicas after each applied
step and wraps prediction in `swapped`. Average `model.weights`: BatchNorm's moving statistics are
averaged too, as EfficientNet's own training does, for statistics of today's weights do not fit
weights of the last thousand steps. Counters, which are whole numbers, are left as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf


class ExponentialAverage:
    """average += (1 - d) (weight - average), where d = min(decay, (1 + n) / (10 + n)).

    n counts the updates so far. Without that warm-up (of `tf.train.ExponentialMovingAverage`) the
    average of a short run would be mostly of its first weights. `state` is what a checkpoint holds.
    Each replica keeps its own copy, so an update moves nothing between replicas; a checkpoint holds
    their mean, which differs from each only in BatchNorm's statistics a replica.
    """

    def __init__(self, variables: Sequence[Any], decay: float) -> None:
        self.decay = decay
        self._strategy = tf.distribute.get_strategy()
        self._variables = [
            variable for variable in map(_tf_variable, variables) if variable.dtype.is_floating
        ]
        # A copy a replica, written by that replica alone.
        local: dict[str, Any] = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
        }
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self._updates = tf.Variable(
            tf.zeros([], tf.int64), aggregation=first, name="average_updates", **local
        )
        self._averages = [
            tf.Variable(
                tf.convert_to_tensor(variable),
                aggregation=tf.VariableAggregation.MEAN,
                name="average",
                **local,
            )
            for variable in self._variables
        ]
        self.state = tf.train.Checkpoint(updates=self._updates, averages=self._averages)

    def update(self) -> None:
        """Moves the averages towards the weights; in a replica, after the optimizer's step."""
        done = tf.cast(self._updates, tf.float32)
        share = tf.maximum(1 - self.decay, 9 / (10 + done))  # 1 - d
        for average, variable in zip(self._averages, self._variables, strict=True):
            average.assign_add(share * (tf.convert_to_tensor(variable) - average))
        self._updates.assign_add(1)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The averages stand in the model inside the block, the weights again after it.

        On the host, outside `tf.function`. Weights and averages change places, copy by copy, so
        training goes on from the very same numbers; a checkpoint must not be made meanwhile.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        copies = self._strategy.experimental_local_results
        for average, variable in zip(self._averages, self._variables, strict=True):
            for one, other in zip(copies(average), copies(variable), strict=True):
                value = tf.identity(one)
                one.assign(other)
                other.assign(value)


def _tf_variable(variable: Any) -> tf.Variable:
    """What stands behind a Keras 3 variable; tf_keras' are TensorFlow's own."""
    return variable if isinstance(variable, tf.Variable) else variable.value
