"""In which numbers a step computes. Variables, logits and losses are float32 in any case.

`trainer.fold_run` chooses and sets it before a model is built; `trainer.loop` scales the loss of
float16 steps. TensorFlow is imported where it is first needed: the config check reads `Precision`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import tensorflow as tf

Precision = Literal["float32", "bfloat16", "float16"]

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose_precision(setting: Precision | None, strategy: tf.distribute.Strategy) -> Precision:
    """`setting`, or without one what suits the devices: bfloat16 on TPU, float16 on GPU."""
    import tensorflow as tf

    if setting is not None:
        return setting
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "bfloat16"
    is_mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    on_gpu = is_mirrored and "GPU" in strategy.extended.worker_devices[0]
    return "float16" if on_gpu else "float32"


def set_precision(precision: Precision) -> None:
    """For the layers that are made from now on, in this process."""
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy(POLICIES[precision])


class LossScale:
    """Keeps float16 gradients from vanishing: Micikevicius et al. 2018 (arXiv 1710.03740, 3.2).

    The loss is multiplied by `scale`, its gradients divided. Where one of them overflows, the step
    is taken with gradients of zero and the scale halved; after `GROWTH_STEPS` without that it
    doubles. No branch depends on a tensor, so one program serves every device.
    """

    INITIAL = 2.0**15
    GROWTH_STEPS = 2000
    LARGEST = 2.0**24

    def __init__(self) -> None:
        import tensorflow as tf

        def variable(value: float, dtype: tf.DType, name: str) -> tf.Variable:
            return tf.Variable(
                value,
                dtype=dtype,
                name=name,
                trainable=False,
                # Every replica computes the same from the sum over all.
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

        self.scale = variable(self.INITIAL, tf.float32, "loss_scale")
        self.good_steps = variable(0, tf.int32, "loss_scale_good_steps")

    def unscale(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients summed over replicas -> of the loss itself; zeros when one is not finite."""
        import tensorflow as tf

        are_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        scale = self.scale.read_value()
        unscaled = [tf.where(are_finite, g / scale, 0.0) for g in gradients]
        good_steps = tf.where(are_finite, self.good_steps + 1, 0)
        grows = good_steps == self.GROWTH_STEPS
        factor = tf.where(are_finite, tf.where(grows, 2.0, 1.0), 0.5)
        self.scale.assign(tf.clip_by_value(scale * factor, 1.0, self.LARGEST))
        self.good_steps.assign(tf.where(grows, 0, good_steps))
        return unscaled
