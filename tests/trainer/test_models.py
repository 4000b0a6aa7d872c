"""`trainer.models`: shapes, input scaling, fusion, and what BatchNorm does."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models import backbones
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.dropout import SeededDropout, dropout_seeded

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
METADATA = np.eye(4, 5, dtype=np.float32)


def build(outputs=3, **settings):
    config = ModelConfig(**{"backbone": "small-cnn", **settings})
    return build_model(config, image_size_px=32, metadata_width=5, outputs=outputs)


@pytest.fixture(scope="module")
def efficientnet():
    return build(backbone="efficientnet-b0")


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_model_maps_inputs_to_float32_logits_by_head(outputs):
    logits = build(outputs)({"image": IMAGES})
    assert list(logits) == ["target"]
    assert logits["target"].shape == (4, outputs)
    assert logits["target"].dtype == tf.float32


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_fused_logits_depend_on_metadata_and_on_the_image(hidden):
    model = build(fusion="concat", metadata_hidden=hidden)
    logits = model({"image": IMAGES, "metadata": METADATA})["target"].numpy()
    other_image = model({"image": 1 - IMAGES, "metadata": METADATA})["target"].numpy()
    other_metadata = model({"image": IMAGES, "metadata": 1 - METADATA})["target"].numpy()
    assert np.abs(logits - other_image).max() > 1e-6
    assert np.abs(logits - other_metadata).max() > 1e-6


def test_efficientnet_sees_images_normalised_as_its_published_weights_expect(efficientnet):
    [layer] = [
        layer for layer in efficientnet.layers if isinstance(layer, tf.keras.layers.Normalization)
    ]
    seen = tf.keras.Model(efficientnet.input, layer.output)({"image": IMAGES}).numpy()
    expected = (IMAGES - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def batch_norms(model):
    kind = tf.keras.layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kind)]


def in_training(model):
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        return model({"image": IMAGES}, training=True)["target"].numpy()


def test_efficientnet_gives_logits_and_its_batch_norm_the_momentum_asked(efficientnet):
    assert efficientnet({"image": IMAGES})["target"].shape == (4, 3)
    momenta = {layer.momentum for layer in batch_norms(efficientnet)}
    assert momenta == {ModelConfig().batch_norm_momentum} == {0.9}


def test_without_a_momentum_batch_norm_keeps_keras_own():
    assert {layer.momentum for layer in batch_norms(build(batch_norm_momentum=None))} == {0.99}


def test_every_dropout_of_efficientnet_is_seeded_by_the_step(efficientnet):
    drops = [layer for layer in efficientnet.layers if isinstance(layer, tf.keras.layers.Dropout)]
    assert len(drops) == 10  # nine blocks that are skipped at random, and the head's
    assert {type(layer) for layer in drops} == {SeededDropout}
    np.testing.assert_array_equal(in_training(efficientnet), in_training(efficientnet))


def test_batch_norm_moves_its_statistics_in_training():
    model = build()
    before = [layer.moving_mean.numpy() for layer in batch_norms(model)]
    in_training(model)
    assert all(
        (layer.moving_mean.numpy() != mean).any()
        for layer, mean in zip(batch_norms(model), before, strict=True)
    )


@pytest.mark.parametrize("backbone", ["small-cnn", "efficientnet-b0"])
def test_frozen_batch_norm_neither_moves_nor_is_trained(backbone):
    model = build(backbone=backbone, batch_norm="frozen")
    norms = batch_norms(model)
    before = [weight.numpy() for layer in norms for weight in layer.weights]
    in_training(model)
    for weight, value in zip((w for n in norms for w in n.weights), before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    trained = {id(weight) for weight in model.trainable_weights}
    assert not any(id(weight) in trained for layer in norms for weight in layer.weights)
    assert trained


@pytest.mark.parametrize("backbone", ["small-cnn", "efficientnet-b0"])
def test_synchronised_batch_norm_of_one_replica_is_the_usual_one(backbone):
    usual = build(backbone=backbone)
    synchronised = build(backbone=backbone, batch_norm="synchronised")
    synchronised.set_weights(usual.get_weights())
    np.testing.assert_allclose(in_training(synchronised), in_training(usual), atol=1e-3)


@pytest.mark.parametrize("error", [OSError("no route"), Exception("URL fetch failure: 404")])
def test_weights_that_cannot_be_had_are_told_with_the_fix(monkeypatch, error):
    def fail(**kwargs):
        raise error

    monkeypatch.setattr(tf.keras.applications, "EfficientNetB0", fail)
    with pytest.raises(backbones.WeightsError, match="run once with a network"):
        build(backbone="efficientnet-b0", weights="imagenet")


def test_an_error_that_is_not_about_weights_is_told_as_it_is(monkeypatch):
    def fail(**kwargs):
        raise ValueError("no such shape")

    monkeypatch.setattr(tf.keras.applications, "EfficientNetB0", fail)
    with pytest.raises(ValueError, match="no such shape"):
        build(backbone="efficientnet-b0", weights="imagenet")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "smal-cnn"}, "did you mean 'small-cnn'"),
        ({"weights": "imagenet"}, "weights must be none for small-cnn"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"batch_norm_momentum": 1.0}, r"batch_norm_momentum must be in \(0, 1\)"),
        ({"metadata_hidden": (0,)}, "metadata_hidden must be widths above 0"),
    ],
)
def test_a_model_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"backbone": "small-cnn", **settings})
