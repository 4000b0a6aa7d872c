"""`trainer.models.heads`: pooling against numpy, averaged masks, float32 logits."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.dropout import dropout_seeded
from trainer.models.heads import GeneralisedMean, pool

RNG = np.random.default_rng(0)
MAP = RNG.random((4, 3, 5, 6), np.float32) - 0.2  # some below zero, as swish gives
IMAGES = RNG.random((4, 32, 32, 3), np.float32)


def build(outputs=3, **settings):
    config = ModelConfig(**{"backbone": "small-cnn", **settings})
    return build_model(config, image_size_px=32, metadata_width=0, outputs=outputs)


def pooled(features=MAP, **settings):
    inputs = tf.keras.Input(features.shape[1:])
    return tf.keras.Model(inputs, pool(inputs, ModelConfig(**settings)))(features).numpy()


@pytest.mark.parametrize(
    ("pooling", "expected"), [("avg", MAP.mean((1, 2))), ("max", MAP.max((1, 2)))]
)
def test_pooling_is_the_mean_or_the_maximum_over_places(pooling, expected):
    np.testing.assert_allclose(pooled(pooling=pooling), expected, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 3.0, 4.5])
def test_gem_is_the_root_of_the_mean_power(power):
    expected = (np.maximum(MAP.astype(np.float64), 1e-6) ** power).mean((1, 2)) ** (1 / power)
    np.testing.assert_allclose(pooled(pooling="gem", gem_power=power), expected, rtol=1e-5)


def test_gem_of_a_high_power_is_the_maximum_and_finite():
    high = pooled(MAP * 1000, pooling="gem", gem_power=500.0)
    np.testing.assert_allclose(high, 1000 * MAP.max((1, 2)), rtol=0.01)


def test_gem_of_nothing_but_zeros_has_finite_gradients():
    layer, features = GeneralisedMean(3.0, is_learned=True, name="gem"), tf.zeros([2, 3, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = layer(features)
    by_power, by_features = tape.gradient(outputs, [layer.trainable_weights[0], features])
    assert np.isfinite(by_power)
    assert np.isfinite(by_features).all()


@pytest.mark.parametrize("is_learned", [True, False])
def test_the_power_of_gem_is_trained_where_asked(is_learned):
    model = build(pooling="gem", gem_learned=is_learned)
    power = model.get_layer("head_pool").weights[0]
    trained = [weight for weight in model.trainable_weights if weight is power]
    assert len(trained) == is_learned
    with tf.GradientTape() as tape, dropout_seeded(tf.constant([1, 2], tf.int64)):
        tape.watch(tf.convert_to_tensor(power))
        loss = tf.reduce_sum(model({"image": IMAGES}, training=True)["target"] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)
    if is_learned:
        [slope] = [g for g, w in zip(gradients, model.trainable_weights, strict=True) if w is power]
        assert abs(slope.numpy()) > 1e-9


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_logits_are_float32_whatever_the_layers_compute_in(policy, pooling):
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(pooling=pooling, dropout_samples=3)
        logits = model({"image": IMAGES})["target"]
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()


def in_training(model, step):
    with dropout_seeded(tf.constant([1, step], tf.int64)):
        return model({"image": IMAGES}, training=True)["target"].numpy()


def test_several_masks_are_averaged_in_training_and_change_nothing_in_prediction():
    one, five = (build(dropout=0.5, dropout_samples=samples) for samples in (1, 5))
    weights = [RNG.normal(0, 0.3, weight.shape) ** 2 for weight in one.get_weights()]
    for model in (one, five):
        model.set_weights(weights)
        for layer in model.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.momentum = 1.0  # statistics stay
    np.testing.assert_allclose(
        five({"image": IMAGES})["target"], one({"image": IMAGES})["target"], rtol=1e-5
    )
    spread = [
        np.std([in_training(m, step) for step in range(60)], axis=0).mean() for m in (one, five)
    ]
    assert 0.8 < spread[0] / spread[1] / np.sqrt(5) < 1.25


def test_each_mask_is_another():
    model = build(dropout=0.5, dropout_samples=2)
    parts = [model.get_layer(f"head_dropout_{n}").output for n in range(2)]
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        first, second = tf.keras.Model(model.input, parts)({"image": IMAGES}, training=True)
    assert ((first.numpy() == 0) != (second.numpy() == 0)).any()
