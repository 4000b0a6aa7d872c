"""JPEG bytes to a model's square, in the graph: what the stream does on the host, for a server.

`trainer.exported.graph` calls it. At the records' size the pixels are those of
`pipeline.stream.render.decode`, bit for bit; an original goes straight to the model's size, where
the records' way takes it through a decode at an eighth, a quarter or a half, a JPEG of quality 95
and perhaps a second shrinking. An EXIF orientation is not looked at, for TensorFlow reads none:
turn such images first.
"""

from __future__ import annotations

import tensorflow as tf


def decode_squares(jpegs: tf.Tensor, size_px: int) -> tf.Tensor:
    """string [N] of JPEG bytes, gray or colour, of any size -> uint8 [N, size_px, size_px, 3]."""
    return tf.map_fn(
        lambda jpeg: square(decode(jpeg), size_px),
        jpegs,
        fn_output_signature=tf.TensorSpec([size_px, size_px, 3], tf.uint8),
    )


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """string [] -> uint8 [H, W, 3], with the slow DCT that libjpeg-turbo takes by default."""
    return tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")


def square(image: tf.Tensor, size_px: int) -> tf.Tensor:
    """uint8 [H, W, 3] -> uint8 [size_px, size_px, 3] of its central square.

    Means over areas, rounded; an image that is too small is enlarged cubically.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    central = image[top : top + side, left : left + side][tf.newaxis]
    sizes = [size_px, size_px]
    resized = tf.cond(
        side < size_px,
        lambda: tf.image.resize(central, sizes, method="bicubic"),
        lambda: tf.image.resize(central, sizes, method="area"),
    )
    # OpenCV, which the stream shrinks with, rounds a half up where it halves, else to even.
    rounded = tf.where(side == 2 * size_px, tf.floor(resized + 0.5), tf.round(resized))
    return tf.ensure_shape(
        tf.cast(tf.clip_by_value(rounded[0], 0, 255), tf.uint8), [size_px, size_px, 3]
    )
