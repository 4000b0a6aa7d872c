"""`trainer.models.deck_cnns`: layers as they were described, every place with its own weight."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.deck_cnns import conv_64_32, conv_75_125

CNNS = {
    # 64 -> 62 -> 60 px, 32 channels; 64 -> 62 -> 31 -> 29 -> 14 px, 125 channels.
    conv_64_32: (60 * 60 * 32, (3 * 9 + 1) * 64 + (64 * 9 + 1) * 32),
    conv_75_125: (14 * 14 * 125, (3 * 9 + 1) * 75 + (75 * 9 + 1) * 125),
}


@pytest.mark.parametrize("cnn", CNNS, ids=lambda cnn: cnn.__name__)
def test_features_and_parameters_are_as_many_as_described(cnn):
    image = tf.keras.Input((64, 64, 3))
    model = tf.keras.Model(image, cnn(image))
    features, parameters = CNNS[cnn]
    assert model.output.shape[1:] == (1, 1, features)
    assert model.count_params() == parameters


def test_pooling_over_one_place_keeps_where_a_feature_was():
    image = tf.keras.Input((16, 16, 3))
    model = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(conv_75_125(image)))
    pixels = np.zeros((2, 16, 16, 3), np.float32)
    pixels[0, 2:6, 2:6] = 1
    pixels[1, 10:14, 10:14] = 1  # the same patch, elsewhere
    here, there = model(pixels).numpy().reshape(2, -1)
    assert here.any()
    assert not np.allclose(here, there)


def test_dropout_is_after_each_pooling():
    image = tf.keras.Input((16, 16, 3))
    layers = tf.keras.Model(image, conv_75_125(image)).layers
    names = [type(layer).__name__ for layer in layers]
    blocks = ["Conv2D", "MaxPooling2D", "Dropout"]
    assert names == ["InputLayer", *blocks, *blocks, "Reshape"]
    assert {layer.rate for layer in layers if hasattr(layer, "rate")} == {0.15}


@pytest.mark.parametrize("backbone", ["conv-64-32", "conv-75-125"])
def test_the_recipe_names_them_and_they_have_no_published_weights(backbone):
    config = ModelConfig(backbone=backbone, dropout=0.0)
    model = build_model(config, image_size_px=16, metadata_width=0, outputs=2)
    assert model({"image": np.zeros((3, 16, 16, 3), np.float32)})["target"].shape == (3, 2)
    with pytest.raises(ValueError, match=f"weights must be a file or none for {backbone}"):
        ModelConfig(backbone=backbone, weights="imagenet")
