"""From a map of features to logits: pooling, dropout, a linear layer.

`trainer.models.build` calls `pool` and `classify`. One head serves every kind of label, for a loss
says what its logits mean: one of a binary label, one a class, or one a label of several.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.models.config import ModelConfig


class GeneralisedMean(tf.keras.layers.Layer):
    """float [B, h, w, C] -> float32 [B, C]: (mean of x^p)^(1/p) over places, negatives as zero.

    GeM: Radenovic et al. 2018 (arXiv 1711.02512, equation 3), one power for all channels. In
    float32 in any case: bfloat16 has three digits, and a third power loses one of them.
    """

    SMALLEST = 1e-6  # the root has no slope at zero

    def __init__(self, power: float, *, is_learned: bool, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._first_power, self._is_learned = power, is_learned

    def build(self, input_shape: Any) -> None:
        self.power = self.add_weight(
            name="power",
            shape=(),
            initializer=tf.keras.initializers.Constant(self._first_power),
            trainable=self._is_learned,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        power = tf.convert_to_tensor(self.power)
        features = tf.maximum(tf.cast(inputs, tf.float32), self.SMALLEST)
        # x^p = e^(p log x), less the largest exponent: a high power must not overflow.
        exponents = power * tf.math.log(features)
        count = tf.cast(tf.shape(features)[1] * tf.shape(features)[2], tf.float32)
        log_mean = tf.reduce_logsumexp(exponents, axis=[1, 2]) - tf.math.log(count)
        return tf.exp(log_mean / power)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (input_shape[0], input_shape[-1])


def pool(features: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """float [B, h, w, C] -> [B, C]."""
    layers, name = tf.keras.layers, "head_pool"
    if config.pooling == "gem":
        return GeneralisedMean(config.gem_power, is_learned=config.gem_learned, name=name)(features)
    if config.pooling == "max":
        return layers.GlobalMaxPooling2D(name=name)(features)
    return layers.GlobalAveragePooling2D(name=name)(features)


def classify(features: tf.Tensor, outputs: int, config: ModelConfig) -> tf.Tensor:
    """float [B, C] -> float32 [B, outputs] logits, whatever the precision of the layers before.

    With several masks (Inoue 2019, arXiv 1905.09788) the logits are averaged, as the winners of
    SIIM-ISIC 2020 did. The head is linear: logits of the mean are the mean of the logits.
    """
    layers, samples = tf.keras.layers, config.dropout_samples
    dropped = [
        layers.Dropout(config.dropout, name=f"head_dropout_{n}")(features) for n in range(samples)
    ]
    mean = layers.Average(name="head_mean")(dropped) if samples > 1 else dropped[0]
    return layers.Dense(outputs, dtype="float32", name="target")(mean)
