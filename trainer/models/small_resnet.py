"""A small residual network, for training from scratch on a CPU, and one that also counts colours.

Backbones as in `trainer.models.backbones`, whose table names them. Of plain convolutions, which a
CPU with AVX-512 takes in bfloat16 at twice the speed of float32, where EfficientNet's depthwise
ones become slower (docs/log.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

WIDTHS = (32, 64, 128, 256)  # channels of the blocks, each at half the side of the one before
HISTOGRAM_CELLS = 8  # a channel of RGB
HISTOGRAM_UNITS = 64
HISTOGRAM_DROPOUT = 0.5
HISTOGRAM_PX = 48  # colours need no more


def small_resnet(image: tf.Tensor) -> tf.Tensor:
    """A stem at half the side, then four blocks of two 3x3 convolutions, the second one residual.

    1.2 million parameters; at 96 px the last map is [B, 6, 6, 256].
    """
    import tensorflow as tf

    layers = tf.keras.layers
    features = layers.Rescaling(4.0, offset=-2.0)(image)
    features = _convolve(features, WIDTHS[0], "stem", strides=2)
    for block, width in enumerate(WIDTHS, start=1):
        if block > 1:
            features = layers.MaxPooling2D(2, name=f"block{block}_pool")(features)
        features = _convolve(features, width, f"block{block}_a")
        further = _convolve(features, width, f"block{block}_b", is_active=False)
        features = layers.Add(name=f"block{block}_add")([features, further])
        features = layers.ReLU(name=f"block{block}_relu")(features)
    return features


def small_resnet_color(image: tf.Tensor) -> tf.Tensor:
    """The same, its map joined by 64 features of the image's colour histogram at every place."""
    import tensorflow as tf

    from trainer.models.color_histogram import ColorHistogram

    layers = tf.keras.layers
    features = small_resnet(image)
    shrunk = layers.AveragePooling2D(max(1, image.shape[1] // HISTOGRAM_PX), name="color_pool")(
        image
    )
    counts = ColorHistogram(HISTOGRAM_CELLS, name="color_histogram")(shrunk)
    # As a linear model wants them: each of mean 0 and deviation 1.
    counts = layers.BatchNormalization(center=False, scale=False, name="color_standard")(counts)
    counts = layers.Dropout(HISTOGRAM_DROPOUT, name="color_dropout")(counts)
    colors = _convolve(counts, HISTOGRAM_UNITS, "color", kernel_px=1)
    colors = layers.UpSampling2D(tuple(features.shape[1:3]), name="color_spread")(colors)
    return layers.Concatenate(name="color_concat")([features, colors])


def _convolve(
    features: tf.Tensor,
    width: int,
    name: str,
    *,
    kernel_px: int = 3,
    strides: int = 1,
    is_active: bool = True,
) -> tf.Tensor:
    import tensorflow as tf

    layers = tf.keras.layers
    features = layers.Conv2D(
        width, kernel_px, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(features)
    features = layers.BatchNormalization(name=f"{name}_bn")(features)
    return layers.ReLU(name=f"{name}_relu")(features) if is_active else features
