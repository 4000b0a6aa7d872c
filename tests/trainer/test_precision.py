"""`trainer.precision`: which numbers a step computes in, and float16's loss scale."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.precision import LossScale, choose_precision, set_precision


def test_a_cpu_computes_in_float32_unless_told():
    strategy = tf.distribute.get_strategy()
    assert choose_precision(None, strategy) == "float32"
    assert choose_precision("bfloat16", strategy) == "bfloat16"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_layers_compute_in_the_precision_but_weights_and_logits_stay_float32(precision):
    set_precision(precision)
    try:
        model = build_model(
            ModelConfig(backbone="small-cnn"), image_size_px=32, metadata_width=0, outputs=2
        )
    finally:
        set_precision("float32")
    convolutions = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {precision}
    assert {tf.as_dtype(weight.dtype) for weight in model.trainable_weights} == {tf.float32}
    assert model({"image": np.zeros((1, 32, 32, 3), np.float32)})["target"].dtype == tf.float32


def test_unscaled_gradients_are_those_of_the_loss():
    loss_scale = LossScale()
    scaled = [tf.constant([3.0]) * loss_scale.scale, tf.constant([0.5, 2.0]) * loss_scale.scale]
    first, second = loss_scale.unscale(scaled)
    np.testing.assert_array_equal(first, [3.0])
    np.testing.assert_array_equal(second, [0.5, 2.0])


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_overflow_gives_no_gradient_and_halves_the_scale(bad):
    loss_scale = LossScale()
    before = float(loss_scale.scale)
    first, second = loss_scale.unscale([tf.constant([1.0]), tf.constant([bad, 1.0])])
    np.testing.assert_array_equal(first, [0.0])
    np.testing.assert_array_equal(second, [0.0, 0.0])
    assert float(loss_scale.scale) == before / 2


def test_the_scale_doubles_after_steps_without_overflow(monkeypatch):
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 3)
    loss_scale = LossScale()
    scales = []
    for value in (1.0, 1.0, np.inf, 1.0, 1.0, 1.0, 1.0):
        loss_scale.unscale([tf.constant([value])])
        scales.append(float(loss_scale.scale) / LossScale.INITIAL)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1]
