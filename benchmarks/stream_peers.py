"""Other ways to stream augmented images, for `benchmarks/stream.py`.

    python benchmarks/stream_peers.py grain FOLDER 32

FOLDER holds JPEGs; each peer reads them into memory, goes through them `EPOCHS` times after a first
pass that is not timed, with the augmentation of `benchmarks/stream.py` (bilinear, reflected edges),
and prints images/s. Batches are uint8 [B, S, S, 3] but where a peer's own ops make floats.

- `bare`: simplejpeg and OpenCV in a thread a core, with nothing around them.
- `grain`: the same in a Grain pipeline of threads; brightness, contrast and saturation as OpenCV
  has them, an op each. `grain-fused` is given our one matrix in their place.
- `projective`: TensorFlow's `decode_jpeg`, `ImageProjectiveTransformV3` and one colour matrix.

Needs, in whichever Python runs it: numpy, opencv-python-headless, simplejpeg, and grain or
tensorflow for their names.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS = 3
SIZE_PX = 256
LUMA = np.array([0.299, 0.587, 0.114])
Image = Any  # uint8 [S, S, 3]


def main() -> None:
    """Runs the peer that argv names and prints its images/s."""
    name, folder, batch_size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    jpegs = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    run_epoch = PEERS[name](jpegs, batch_size)
    run_epoch(0)
    start = time.perf_counter()
    images = sum(run_epoch(1 + epoch) for epoch in range(EPOCHS))
    print(images / (time.perf_counter() - start))


def draw_matrix(rng: np.random.Generator) -> Any:
    """float64 [2, 3]: flips, rotation ±180°, zoom ±12 %, shift ±8 px, about the centre."""
    angle = rng.uniform(-math.pi, math.pi)
    zoom = rng.uniform(0.88, 1.12)
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    flip_x, flip_y = rng.choice([-1, 1], 2)
    linear = np.array([[cos * flip_x, -sin], [sin, cos * flip_y]])
    centre = (SIZE_PX - 1) / 2
    return np.column_stack([linear, centre - linear @ [centre, centre] + rng.uniform(-8, 8, 2)])


def warp(image: Image, matrix: Any) -> Image:
    """uint8 [S, S, 3] → the same, bilinear, reflected at the edges."""
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        image, matrix, (SIZE_PX, SIZE_PX), flags=flags, borderMode=cv2.BORDER_REFLECT
    )


def colour_by_ops(image: Image, rng: np.random.Generator) -> Image:
    """Brightness ±0.1, contrast and saturation 0.8–1.2, an OpenCV call or two each."""
    import cv2

    image = cv2.convertScaleAbs(image, alpha=1, beta=float(rng.uniform(-0.1, 0.1) * 255))
    contrast = rng.uniform(0.8, 1.2)
    grey = float(image.mean())
    image = cv2.convertScaleAbs(image, alpha=contrast, beta=(1 - contrast) * grey)
    saturation = rng.uniform(0.8, 1.2)
    luma = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, luma, 1 - saturation, 0)


def colour_fused(image: Image, rng: np.random.Generator) -> Image:
    """The same as one matrix."""
    import cv2

    contrast, saturation = rng.uniform(0.8, 1.2, 2)
    linear = saturation * np.eye(3) + (1 - saturation) * LUMA
    offset = rng.uniform(-0.1, 0.1) * 255 * contrast
    offset += (1 - contrast) * np.array(cv2.mean(image)[:3]).mean()
    return cv2.transform(image, np.column_stack([contrast * linear, [offset] * 3]))


def bare(jpegs: list[bytes], batch_size: int) -> Callable[[int], int]:
    """A thread a core, each with its share of the images."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    cores = len(os.sched_getaffinity(0))
    pool = concurrent.futures.ThreadPoolExecutor(cores)

    def work(core: int, epoch: int) -> int:
        rng = np.random.default_rng([epoch, core])
        mine = jpegs[core::cores]
        for jpeg in mine:
            image = simplejpeg.decode_jpeg(jpeg)
            colour_by_ops(warp(image, draw_matrix(rng)), rng)
        return len(mine)

    return lambda epoch: sum(pool.map(work, range(cores), [epoch] * cores))


def grain_with(colour: Callable[[Image, np.random.Generator], Image]) -> Any:
    """A peer that streams through Grain."""

    def peer(jpegs: list[bytes], batch_size: int) -> Callable[[int], int]:
        import cv2
        import grain
        import simplejpeg

        cv2.setNumThreads(1)

        def render(jpeg: bytes, rng: np.random.Generator) -> Image:
            return colour(warp(simplejpeg.decode_jpeg(jpeg), draw_matrix(rng)), rng)

        def run_epoch(epoch: int) -> int:
            dataset = grain.MapDataset.source(jpegs).seed(epoch).shuffle().random_map(render)
            reading = grain.ReadOptions(num_threads=2 * len(os.sched_getaffinity(0)))
            batches = dataset.to_iter_dataset(reading).batch(batch_size, drop_remainder=True)
            return sum(len(batch) for batch in batches)

        return run_epoch

    return peer


def projective(jpegs: list[bytes], batch_size: int) -> Callable[[int], int]:
    """TensorFlow alone, within tf.data."""
    import tensorflow as tf

    def render(jpeg: Any, seed: Any) -> Any:
        image = tf.cast(tf.io.decode_jpeg(jpeg, channels=3), tf.float32) / 255
        u = tf.random.stateless_uniform([9], tf.stack([seed, 0]))
        angle = (u[0] * 2 - 1) * math.pi
        zoom = 0.88 + 0.24 * u[1]
        flip = tf.sign(u[2:4] - 0.5)
        cos, sin = tf.cos(angle) * zoom, tf.sin(angle) * zoom
        linear = tf.reshape(tf.stack([cos * flip[0], -sin, sin, cos * flip[1]]), [2, 2])
        centre = tf.fill([2], (SIZE_PX - 1) / 2)
        offset = centre - tf.linalg.matvec(linear, centre) + (u[4:6] * 2 - 1) * 8
        matrix = tf.concat([linear, offset[:, None]], axis=1)
        image = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=tf.concat([tf.reshape(matrix, [1, 6]), [[0.0, 0.0]]], axis=1),
            output_shape=[SIZE_PX, SIZE_PX],
            interpolation="BILINEAR",
            fill_mode="REFLECT",
            fill_value=0.0,
        )[0]
        contrast, saturation = 0.8 + 0.4 * u[6], 0.8 + 0.4 * u[7]
        colours = contrast * (
            saturation * tf.eye(3) + (1 - saturation) * tf.constant(LUMA, tf.float32)
        )
        brightness = contrast * (u[8] * 0.2 - 0.1) + (1 - contrast) * tf.reduce_mean(image)
        image = tf.matmul(tf.reshape(image, [-1, 3]), colours, transpose_b=True) + brightness
        return tf.reshape(tf.clip_by_value(image, 0, 1), [SIZE_PX, SIZE_PX, 3])

    def batches(epoch: int) -> Iterator[Any]:
        seeds = tf.range(len(jpegs)) + epoch * len(jpegs)
        dataset = tf.data.Dataset.from_tensor_slices((jpegs, seeds))
        dataset = dataset.map(render, num_parallel_calls=tf.data.AUTOTUNE)
        return iter(dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

    return lambda epoch: sum(len(batch) for batch in batches(epoch))


PEERS: dict[str, Callable[[list[bytes], int], Callable[[int], int]]] = {
    "bare": bare,
    "grain": grain_with(colour_by_ops),
    "grain-fused": grain_with(colour_fused),
    "projective": projective,
}


if __name__ == "__main__":
    main()
