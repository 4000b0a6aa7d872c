"""What lies between skin and lens: hairs, gel bubbles, a ruler; called by `picture`.

Knows nothing of the label.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.fields import Picture, Shape, lay_colour
from pipeline.phantom.skin import Skin

FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel


def lay_hairs(rng: np.random.Generator, picture: Picture, skin: Skin) -> None:
    """Draws curved hairs into float32 [H, W, 3], in place, each with a soft shadow."""
    count = rng.poisson(skin.hairiness)
    if not count:
        return
    shape = picture.shape[:2]
    side = min(shape)
    strands = np.zeros(shape, np.uint8)
    grain = rng.uniform(0, 2 * math.pi)
    thickness_px = side * rng.uniform(0.0015, 0.0038)
    for _ in range(count):
        heading = grain + rng.normal(0, 0.5)
        length = side * rng.uniform(0.4, 1.5)
        points = bend_hair(rng, shape, heading, length)
        layer = max(1, round(thickness_px * rng.uniform(0.6, 1.3)))
        shade = int(255 * min(1.0, thickness_px * rng.uniform(0.7, 1.1)))
        cv2.polylines(strands, [points], False, shade, layer, cv2.LINE_AA, FRACTION_BITS)
    shadow = cv2.GaussianBlur(strands, (0, 0), 0.006 * side)
    lay_ink(picture, np.roll(shadow, round(0.006 * side), axis=0), 0.35, (0.0, 0.0, 0.0))
    lay_ink(picture, cv2.GaussianBlur(strands, (0, 0), 0.6), 0.9, skin.hair_rgb)


def bend_hair(
    rng: np.random.Generator, shape: Shape, heading: float, length_px: float
) -> NDArray[np.int32]:
    """Int32 [24, 1, 2]: points along one hair that bends slowly, in sixteenths of a pixel."""
    steps = 24
    along = np.linspace(0, 1, steps)
    bend = rng.normal(0, 1.0) * along + rng.normal(0, 0.8) * along**2
    start = rng.uniform(0, 1, 2) * (shape[1], shape[0])
    stride = length_px / steps * np.stack([np.cos(heading + bend), np.sin(heading + bend)], axis=1)
    points = start + np.cumsum(stride, axis=0) - stride.sum(axis=0) / 2
    bits: NDArray[np.int32] = np.rint(points * 2**FRACTION_BITS).astype(np.int32)
    return bits[:, None]


def add_bubbles(rng: np.random.Generator, picture: Picture) -> None:
    """Draws a small cloud of gel bubbles into float32 [H, W, 3], in place."""
    shape = picture.shape[:2]
    side = min(shape)
    rim, glint = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    middle = rng.uniform(0.1, 0.9, 2) * (shape[1], shape[0])
    for _ in range(rng.integers(3, 14)):
        x, y = rng.normal(middle, 0.12 * side)
        size_px = side * rng.uniform(0.006, 0.025)
        spot = (int(16 * x), int(16 * y))
        cv2.circle(rim, spot, int(16 * size_px), 150, 1, cv2.LINE_AA, FRACTION_BITS)
        spark = (int(16 * (x - 0.4 * size_px)), int(16 * (y - 0.4 * size_px)))
        cv2.circle(glint, spark, int(4 * size_px), 230, -1, cv2.LINE_AA, FRACTION_BITS)
    lay_ink(picture, cv2.GaussianBlur(rim, (0, 0), 0.8), 0.6, (0.95, 0.93, 0.9))
    lay_ink(picture, cv2.GaussianBlur(glint, (0, 0), 0.7), 0.9, (1.0, 1.0, 1.0))


def lay_ruler(rng: np.random.Generator, picture: Picture) -> None:
    """Draws the ticks of a millimetre scale along one edge of float32 [H, W, 3], in place."""
    height, width = picture.shape[:2]
    side = min(height, width)
    ink = np.zeros((height, width), np.uint8)
    tick_px = side * rng.uniform(0.022, 0.05)
    length_px = side * rng.uniform(0.02, 0.03)
    tilt = rng.normal(0, 0.03)
    along_x = rng.random() < 0.5
    edge = rng.uniform(0.02, 0.06) * side
    reach = width if along_x else height
    first, last = sorted(rng.uniform(-0.1, 1.1, 2) * reach)
    if last - first < 0.4 * reach:
        first, last = 0.1 * reach, 0.9 * reach
    far_side = rng.random() < 0.5
    for tick, at in enumerate(np.arange(first, last, tick_px)):
        long = length_px * (2 if tick % 10 == 0 else 1.5 if tick % 5 == 0 else 1)
        ends = np.array([[at, edge + tilt * at], [at - tilt * long, edge + tilt * at + long]])
        if far_side:
            ends[:, 1] = (height if along_x else width) - ends[:, 1]
        if not along_x:
            ends = ends[:, ::-1]
        a, b = np.rint(ends * 2**FRACTION_BITS).astype(int).tolist()
        cv2.line(ink, a, b, 255, max(1, round(side / 350)), cv2.LINE_AA, FRACTION_BITS)
    lay_ink(picture, cv2.GaussianBlur(ink, (0, 0), 0.6), 0.8, (0.08, 0.07, 0.08))


def lay_ink(
    picture: Picture, ink: NDArray[np.uint8], opacity: float, rgb: tuple[float, float, float]
) -> None:
    """Lays one colour over float32 [H, W, 3], in place, where uint8 [H, W] `ink` is."""
    lay_colour(picture, ink * np.float32(opacity / 255), rgb)
