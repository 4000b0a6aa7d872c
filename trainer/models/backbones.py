"""Backbones by name: images in, a map of features out.

A backbone is a function `image -> features`: float32 [B, S, S, 3] in [0, 1] to float32
[B, h, w, C], in the Keras functional style, without published weights: those are loaded by
`trainer.models.weights`. A new one is a function and a line in `BACKBONES`. Layers with names
such as `block2_conv` make a group to freeze: see `trainer.models.groups`. TensorFlow is imported
where it is first needed: the config check reads the table before that.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SettingsError
from trainer.models.deck_cnns import conv_64_32, conv_75_125
from trainer.models.small_resnet import small_resnet, small_resnet_color

if TYPE_CHECKING:
    import tensorflow as tf

Backend = Literal["keras", "efficientnet"]
Backbone = Callable[["tf.Tensor"], "tf.Tensor"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


def small_cnn(image: tf.Tensor) -> tf.Tensor:
    """Five 3x3 convolutions, each halving the sides, 16 to 128 channels: 0.19 million parameters.

    For 64 to 96 px on a CPU, where an epoch of 800 images takes half a second and a dozen will do.
    """
    import tensorflow as tf

    layers = tf.keras.layers
    features = layers.Rescaling(2.0, offset=-1.0)(image)
    for block, channels in enumerate((16, 32, 64, 96, 128), start=1):
        name = f"block{block}"
        features = layers.Conv2D(
            channels, 3, strides=2, padding="same", use_bias=False, name=f"{name}_conv"
        )(features)
        features = layers.BatchNormalization(name=f"{name}_bn")(features)
        features = layers.ReLU(name=f"{name}_relu")(features)
    return features


def keras_efficientnet(image: tf.Tensor, *, variant: int) -> tf.Tensor:
    """EfficientNet B0 to B7 without its top: Tan and Le 2019 (arXiv 1905.11946).

    Keras' model takes [0, 255] and normalises in a layer of its own, which without weights is the
    identity.
    """
    import tensorflow as tf

    inputs = tf.keras.layers.Rescaling(255.0)(image)
    build = getattr(tf.keras.applications, f"EfficientNetB{variant}")
    model = build(include_top=False, weights=None, input_tensor=inputs)
    set_normalization(model.layers, IMAGENET_MEAN, [std**2 for std in IMAGENET_STD])
    return model.output


def package_efficientnet(image: tf.Tensor, *, variant: int) -> tf.Tensor:
    """The same network as the package `efficientnet` (1.1.1) builds it, its drop-connect corrected.

    The package divides a block's number by the blocks of B0 (16) and not by the network's own, so
    that B7's last block would be skipped at 0.675 in place of 0.196.
    """
    import tensorflow as tf

    package = _import_package()
    layers, keras = tf.keras.layers, tf.keras
    normalization = layers.Normalization(name="normalization")
    inputs = normalization(image)
    set_normalization([normalization], IMAGENET_MEAN, [std**2 for std in IMAGENET_STD])
    # It takes the modules of Keras as arguments. `Input` and `Model` are our own here, for its way
    # of building on a tensor knows neither Keras; what it makes is part of our model.
    features = getattr(package, f"EfficientNetB{variant}")(
        include_top=False,
        weights=None,
        input_shape=tuple(image.shape[1:]),
        backend=keras.backend,
        layers=types.SimpleNamespace(**{**vars(layers), "Input": lambda shape: inputs}),
        models=types.SimpleNamespace(Model=lambda inputs, outputs, name: outputs),
        utils=keras.utils,
    )
    built = keras.Model(image, features).layers
    blocks = sum(isinstance(layer, layers.DepthwiseConv2D) for layer in built)
    counted = sum(block.num_repeat for block in package.DEFAULT_BLOCKS_ARGS)
    for layer in built:
        if isinstance(layer, layers.Dropout):
            layer.rate *= counted / blocks
    return features


def set_normalization(layers: Sequence[Any], mean: Any, variance: Any) -> None:
    """Sets what the one Normalization among `layers` subtracts, and whose root it divides by.

    float [3] each. From then on the layer computes with its weights, whoever assigns them.
    """
    import tensorflow as tf

    from trainer.models.normalization import make_live

    [layer] = [layer for layer in layers if isinstance(layer, tf.keras.layers.Normalization)]
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()
    make_live(layer)


def _import_package() -> Any:
    try:
        # Not `efficientnet.tfkeras`: that needs scikit-image to crop pictures.
        from efficientnet import model  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError(
            f"model.backend: the package efficientnet must be installed, got: {error}; run "
            "pip install --no-deps efficientnet==1.1.1 Keras-Applications==1.0.8 six, or leave "
            "model.backend out: its weights load all the same"
        ) from error
    return model


def _variants(build: Callable[..., tf.Tensor]) -> dict[str, Backbone]:
    return {f"efficientnet-b{n}": functools.partial(build, variant=n) for n in range(8)}


BACKBONES: dict[str, Backbone] = {
    "small-cnn": small_cnn,
    "small-resnet": small_resnet,
    "small-resnet-color": small_resnet_color,
    "conv-64-32": conv_64_32,
    "conv-75-125": conv_75_125,
    **_variants(keras_efficientnet),
}
BACKENDS: dict[Backend, dict[str, Backbone]] = {
    "keras": BACKBONES,
    "efficientnet": _variants(package_efficientnet),
}
