"""`trainer.models.fusion`: logits of image and metadata, and metadata hidden in training."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.dropout import HidingDropout, dropout_seeded
from trainer.models.fusion import FUSIONS

RNG = np.random.default_rng(0)
IMAGES = RNG.random((4, 32, 32, 3), np.float32)
METADATA = np.eye(4, 5, dtype=np.float32)
VALUES = RNG.normal(size=(4000, 8)).astype(np.float32) + 5  # none of them is zero
fusions = pytest.mark.parametrize("fusion", list(FUSIONS))


def build(**settings):
    config = ModelConfig(**{"backbone": "small-cnn", **settings})
    return build_model(config, image_size_px=32, metadata_width=5, outputs=3)


def logits(model, image=IMAGES, metadata=METADATA):
    return model({"image": image, "metadata": metadata}, training=False)["target"].numpy()


def randomise(model):
    for weight in model.trainable_weights:
        weight.assign(RNG.normal(0, 0.2, weight.shape))


@fusions
@pytest.mark.parametrize("units", [(), (8,), (8, 4)])
def test_fused_logits_depend_on_metadata_and_on_the_image(fusion, units):
    model = build(fusion=fusion, fusion_units=units)
    randomise(model)
    assert np.abs(logits(model) - logits(model, image=1 - IMAGES)).max() > 1e-6
    assert np.abs(logits(model) - logits(model, metadata=1 - METADATA)).max() > 1e-6


def test_the_layers_of_metadata_have_the_widths_asked_and_stand_beside_the_image():
    model = build(fusion="concat")
    assert [model.get_layer(f"fusion_dense_{n}").output.shape[1] for n in range(2)] == [512, 128]
    assert model.get_layer("fusion_concat").output.shape[1] == 128 + 128


def test_film_begins_as_the_image_alone():
    alone, fused = build(), build(fusion="film", fusion_units=(8,))
    shared = {layer.name: layer for layer in alone.layers if layer.weights}
    for layer in fused.layers:
        if layer.name in shared:
            layer.set_weights([RNG.normal(0, 0.2, w.shape) ** 2 for w in layer.get_weights()])
            shared.pop(layer.name).set_weights(layer.get_weights())
    assert not shared
    expected = alone({"image": IMAGES})["target"].numpy()
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(logits(fused), expected, rtol=1e-5)


def test_film_scales_by_one_more_than_asked_and_shifts():
    model = build(fusion="film", fusion_units=())
    randomise(model)
    names = ("head_pool", "fusion_scale", "fusion_shift", "fusion_film")
    parts = tf.keras.Model(model.input, [model.get_layer(name).output for name in names])
    features, scale, shift, out = parts({"image": IMAGES, "metadata": METADATA})
    np.testing.assert_allclose(out, features * (1 + scale) + shift, atol=1e-6)


def hide(layer, training=True):
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        return layer(VALUES, training=training).numpy()


def test_whole_vectors_are_hidden_and_the_others_left_as_they_are():
    hidden = hide(HidingDropout(0.3, noise_shape=(None, 1)))
    is_hidden = (hidden == 0).all(axis=1)
    np.testing.assert_array_equal(hidden[~is_hidden], VALUES[~is_hidden])
    assert abs(is_hidden.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / len(VALUES))


def test_single_values_are_hidden_each_by_itself():
    hidden = hide(HidingDropout(0.3))
    is_hidden = hidden == 0
    np.testing.assert_array_equal(hidden[~is_hidden], VALUES[~is_hidden])
    assert np.abs(is_hidden.mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / len(VALUES))
    assert np.abs(np.corrcoef(is_hidden.T) - np.eye(8)).max() < 0.1


def test_nothing_is_hidden_in_prediction():
    np.testing.assert_array_equal(hide(HidingDropout(0.3), training=False), VALUES)


@fusions
def test_a_model_hides_metadata_in_training_only(fusion):
    model = build(fusion=fusion, metadata_dropout=0.5, metadata_column_dropout=0.2)
    hiding = [layer for layer in model.layers if isinstance(layer, HidingDropout)]
    assert [layer.rate for layer in hiding] == [0.5, 0.2]
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        seen = tf.keras.Model(model.input, hiding[-1].output)(
            {"image": np.repeat(IMAGES, 50, 0), "metadata": np.ones((200, 5), np.float32)},
            training=True,
        ).numpy()
    assert set(np.unique(seen)) == {0.0, 1.0}
    assert 0.35 < (seen == 0).all(axis=1).mean() < 0.65
    np.testing.assert_array_equal(logits(model), logits(model))


def test_frozen_batch_norm_is_the_backbones_for_metadatas_has_seen_nothing_yet():
    model = build(fusion="concat", fusion_units=(8,), batch_norm="frozen")
    kind = tf.keras.layers.BatchNormalization
    trained = {layer.name for layer in model.layers if isinstance(layer, kind) and layer.trainable}
    assert trained == {"fusion_bn_0"}
