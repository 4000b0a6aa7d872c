"""Smooth random fields, of which skin, lesions and their structures are made, and laying colour."""

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float32]  # float32 [H, W]
Picture: TypeAlias = NDArray[np.float32]  # float32 [H, W, 3], RGB as shown on a screen, 0 to 1
Shape: TypeAlias = tuple[int, int]  # height, width in pixels

SAMPLES_PER_SCALE = 2.5  # coarse samples a feature: fewer would show the coarse grid


def smooth_noise(rng: np.random.Generator, shape: Shape, scale_px: float) -> Field:
    """Float32 [H, W], mean 0, standard deviation about 1, blobs of about `scale_px` across."""
    return fractal_noise(rng, shape, scale_px, octaves=1)


def fractal_noise(
    rng: np.random.Generator, shape: Shape, scale_px: float, octaves: int, gain: float = 0.55
) -> Field:
    """Float32 [H, W], mean 0, standard deviation about 1: noise with ever finer noise upon it.

    Each octave has blobs half as large as the last and is `gain` times as strong.

    White noise is blurred on a coarse grid and enlarged. The blur is what makes the blobs equally
    round in all directions: enlarging unblurred noise shows its grid. Octaves are added on the grid
    of the next finer one, so the full size is filled once.
    """
    total = None
    for octave in range(octaves):
        step = max(scale_px / 2**octave / SAMPLES_PER_SCALE, 1.0)
        sigma = max(scale_px / 2**octave / step / 2, 0.5)
        coarse = (math.ceil(shape[0] / step) + 2, math.ceil(shape[1] / step) + 2)
        margin = math.ceil(3 * sigma)  # cut off again: the blur mirrors what is at the rim
        padded = (coarse[0] + 2 * margin, coarse[1] + 2 * margin)
        layer = cv2.GaussianBlur(rng.standard_normal(padded, dtype=np.float32), (0, 0), sigma)
        layer = layer[margin:-margin, margin:-margin]
        # What the blur took off the spread is given back.
        layer *= np.float32(2 * math.sqrt(math.pi) * sigma * gain**octave)
        total = layer if total is None else enlarge(total, coarse) + layer
    assert total is not None
    total *= np.float32(1 / math.sqrt(sum(gain ** (2 * octave) for octave in range(octaves))))
    return enlarge(total, shape)


def enlarge(field: Field, shape: Shape) -> Field:
    """Float32 [H, W] of `shape`."""
    return np.asarray(cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC))


def smooth_step(ramp: Field) -> Field:
    """Float32 [H, W] in [0, 1]: 0 below a ramp of 0, 1 above 1, an S between them."""
    t = np.clip(ramp, 0, 1)
    return t * t * (3 - 2 * t)


def triple(field: Field) -> Picture:
    """Float32 [H, W, 3]: the same in every channel; broadcasting [H, W, 1] would be slower."""
    return np.asarray(cv2.merge([field, field, field]))


def lay_colour(picture: Picture, opacity: Field, rgb: tuple[float, float, float]) -> None:
    """Covers float32 [H, W, 3], in place, with one colour; float32 [H, W] opacity in [0, 1]."""
    cv2.multiply(picture, triple(1 - opacity), dst=picture)
    cv2.add(picture, cv2.merge([opacity * np.float32(level) for level in rgb]), dst=picture)
