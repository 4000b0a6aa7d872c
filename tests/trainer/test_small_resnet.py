"""`trainer.models.small_resnet` and its colour histogram."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.build import build_model
from trainer.models.color_histogram import ColorHistogram
from trainer.models.config import ModelConfig
from trainer.models.groups import backbone_blocks

RNG = np.random.default_rng(0)


def shares_by_hand(image, cells):
    """Each pixel over the cells that it lies between, one after another."""
    shares = np.zeros((cells,) * 3)
    for pixel in image.reshape(-1, 3).astype(np.float64):
        place = np.clip(pixel * cells - 0.5, 0, cells - 1)
        low = np.minimum(np.floor(place).astype(int), cells - 2)
        part = place - low
        for corner in itertools.product((0, 1), repeat=3):
            weight = np.prod(np.where(corner, part, 1 - part))
            shares[tuple(low + corner)] += weight
    return shares / (image.size // 3)


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "compiled"])
def test_a_pixel_counts_in_the_cells_it_lies_between(in_graph):
    images = RNG.random((2, 6, 5, 3)).astype(np.float32)
    images[0, 0] = [[0, 0, 0], [1, 1, 1], [0, 1, 0.5], [0.01, 0.99, 1], [0.25, 0.5, 0.75]]
    layer = ColorHistogram(4, name="histogram")
    counted = tf.function(layer, jit_compile=True)(images) if in_graph else layer(images)
    expected = np.stack([shares_by_hand(image, 4).reshape(1, 1, -1) for image in images])
    assert counted.shape == (2, 1, 1, 64)
    np.testing.assert_allclose(np.square(counted) - 1e-6, expected, atol=1e-6)


def test_the_slopes_of_a_histogram_are_finite_at_its_empty_cells():
    image = tf.Variable(np.zeros((1, 2, 2, 3), np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ColorHistogram(8, name="histogram")(image))
    assert np.isfinite(tape.gradient(total, image)).all()


@pytest.mark.parametrize("size_px", [32, 96, 100])
@pytest.mark.parametrize("backbone", ["small-resnet", "small-resnet-color"])
def test_a_small_resnet_takes_any_size(backbone, size_px):
    model = build_model(
        ModelConfig(backbone=backbone), image_size_px=size_px, metadata_width=0, outputs=7
    )
    images = RNG.random((2, size_px, size_px, 3)).astype(np.float32)
    assert model({"image": images})["target"].shape == (2, 7)
    assert backbone_blocks(model)[:5] == ["stem", "block1", "block2", "block3", "block4"]


def test_colours_alone_move_the_logits_of_a_network_that_counts_them():
    """Turned upside down, an image holds the same colours: only the convolutions see it."""
    model = build_model(
        ModelConfig(backbone="small-resnet-color", pooling="avg"),
        image_size_px=32,
        metadata_width=0,
        outputs=1,
    )
    [histogram] = [layer for layer in model.layers if layer.name == "color_relu"]
    seen = tf.keras.Model(model.input, histogram.output)
    image = RNG.random((1, 32, 32, 3)).astype(np.float32)
    upright, turned, darker = (
        seen({"image": each}).numpy() for each in (image, image[:, ::-1], image * 0.5)
    )
    np.testing.assert_allclose(turned, upright, atol=1e-5)
    assert np.abs(darker - upright).max() > 1e-2
