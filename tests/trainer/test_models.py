"""`trainer.models`: shapes, input scaling, sizes, groups of layers, and what BatchNorm does."""

import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import SettingsError
from trainer.models.backbones import BACKENDS
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.dropout import SeededDropout, dropout_seeded
from trainer.models.groups import backbone_blocks, layer_groups

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
METADATA = np.eye(4, 5, dtype=np.float32)


def build(outputs=3, **settings):
    config = ModelConfig(**{"backbone": "small-cnn", **settings})
    return build_model(config, image_size_px=32, metadata_width=5, outputs=outputs)


@pytest.fixture(scope="module", params=["keras", "efficientnet"])
def efficientnet(request):
    if request.param == "efficientnet":
        pytest.importorskip(
            "efficientnet", reason="efficientnet is not installed; make install does"
        )
    return build(backbone="efficientnet-b0", backend=request.param)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_model_maps_inputs_to_float32_logits_by_head(outputs):
    logits = build(outputs)({"image": IMAGES})
    assert list(logits) == ["target"]
    assert logits["target"].shape == (4, outputs)
    assert logits["target"].dtype == tf.float32


def test_efficientnet_sees_images_normalised_as_its_published_weights_expect(efficientnet):
    [layer] = [
        layer for layer in efficientnet.layers if isinstance(layer, tf.keras.layers.Normalization)
    ]
    seen = tf.keras.Model(efficientnet.input, layer.output)({"image": IMAGES}).numpy()
    expected = (IMAGES - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_what_is_assigned_to_the_normalisation_later_is_what_it_computes_with(efficientnet):
    [layer] = [
        layer for layer in efficientnet.layers if isinstance(layer, tf.keras.layers.Normalization)
    ]
    before, inner = layer.get_weights(), tf.keras.Model(efficientnet.input, layer.output)
    try:
        layer.set_weights([np.full(3, 0.5), np.float32([0.25, 1, 4]), *before[2:]])
        expected = (IMAGES - 0.5) / [0.5, 1, 2]
        np.testing.assert_allclose(inner({"image": IMAGES}), expected, atol=1e-6)
    finally:
        layer.set_weights(before)


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


# Blocks of B0 by stage (Tan and Le 2019, table 1), and the depth that each variant multiplies.
REPEATS = (1, 2, 2, 3, 3, 4, 1)
DEPTHS = (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1)
# As Keras' summaries tell, with 1,000 classes: the paper's 5.3, 7.8, 9.2, 12, 19, 30, 43 and 66
# million, and the 7 numbers of a Normalization layer.
PARAMETERS = (
    5_330_571, 7_856_239, 9_177_569, 12_320_535, 19_466_823, 30_562_527, 43_265_143, 66_658_687,
)  # fmt: skip
VARIANTS = [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 8))]
backends = pytest.mark.parametrize("backend", list(BACKENDS))


@backends
@pytest.mark.parametrize("variant", VARIANTS)
def test_b0_to_b7_have_the_published_parameters_and_skip_blocks_at_the_published_rates(
    backend, variant
):
    if backend == "efficientnet":
        pytest.importorskip(
            "efficientnet", reason="efficientnet is not installed; make install does"
        )
    model = build(1000, backbone=f"efficientnet-b{variant}", backend=backend)
    assert model.count_params() == PARAMETERS[variant]
    # The b-th of n blocks is skipped at 0.2 b / n, unless it is a stage's first: that can't be.
    repeats = [math.ceil(DEPTHS[variant] * count) for count in REPEATS]
    firsts = {sum(repeats[:stage]) for stage in range(len(repeats))}
    blocks = sum(repeats)
    expected = [0.2 * block / blocks for block in range(blocks) if block not in firsts]
    drops = [layer for layer in model.layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose([layer.rate for layer in drops], expected, rtol=1e-12)


def test_a_backend_that_is_not_installed_is_told_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet", None)
    with pytest.raises(SettingsError, match=r"pip install --no-deps efficientnet==1\.1\.1"):
        build(backbone="efficientnet-b0", backend="efficientnet")


@backends
def test_any_resolution_will_do(backend):
    if backend == "efficientnet":
        pytest.importorskip(
            "efficientnet", reason="efficientnet is not installed; make install does"
        )
    image = tf.keras.Input((75, 75, 3))
    assert BACKENDS[backend]["efficientnet-b0"](image).shape[1:] == (3, 3, 1280)


@pytest.mark.parametrize("fusion", [None, "concat"])
def test_layer_groups_lead_from_the_image_to_the_logits_and_hold_every_layer_once(fusion):
    model = build(backbone="efficientnet-b0", fusion=fusion, pooling="gem", dropout_samples=2)
    groups = layer_groups(model)
    blocks = [f"block{n}{'abcd'[k]}" for n, count in enumerate(REPEATS, 1) for k in range(count)]
    beside = ["fusion"] if fusion else []
    assert list(groups) == ["stem", *blocks, "top", *beside, "head"]
    layers = [layer for group in groups.values() for layer in group]
    assert sorted(layer.name for layer in layers) == sorted(layer.name for layer in model.layers)
    names = {name: {layer.name for layer in group} for name, group in groups.items()}
    assert {"stem_conv", "image"} <= names["stem"]
    assert {"top_conv", "top_bn"} <= names["top"]
    assert {"head_pool", "target"} <= names["head"]
    assert backbone_blocks(model) == ["stem", *blocks, "top"]


def test_the_small_networks_blocks_are_groups():
    blocks = [f"block{n}" for n in range(1, 6)]
    assert list(layer_groups(build())) == ["stem", *blocks, "head"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "smal-cnn"}, "did you mean 'small-cnn'"),
        ({"backend": "efficientnet"}, "backend must be 'keras' for small-cnn"),
        ({"weights": "imagenet"}, "weights must be a file or none for small-cnn"),
        ({"weights": "imagnet"}, "did you mean 'imagenet'"),
        ({"weights": "b0.ckpt"}, r"a file that ends in \.h5 or \.keras"),
        ({"gem_power": 0.0}, "gem_power must be above 0"),
        ({"dropout_samples": 0}, "dropout_samples must be 1 or more"),
        ({"metadata_dropout": 1.0}, r"metadata_dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"batch_norm_momentum": 1.0}, r"batch_norm_momentum must be in \(0, 1\)"),
        ({"fusion_units": (0,)}, "fusion_units must be widths above 0"),
    ],
)
def test_a_model_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"backbone": "small-cnn", **settings})
