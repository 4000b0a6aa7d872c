"""Moves an image's pixels once, by one matrix, and leaves no black edges.

Called by `pipeline.stream.augment.chain` in the stream's threads. OpenCV releases the interpreter's
lock while it works.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.stream.augment.ops import Floats, Frame, Image

# More stored pixels than this an output pixel are first averaged over areas: bilinear weights
# reach one pixel far and would skip what lies between.
_LARGEST_STEP = 1.25
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
# fedcba|abcdefgh|hgfedcb: the mirror stands on the image's edge, not in its last pixel.
_BORDER = cv2.BORDER_REFLECT
_scratch = threading.local()


def move(images: Sequence[Image], matrices: Floats, out: npt.NDArray[np.uint8]) -> None:
    """uint8 [H, W, 3] each → uint8 [B, S, S, 3] in `out`: the colour at [B, 2, 3] of each place.

    Places are (x, y) in pixels of each image, pixel i covering [i, i + 1). Bilinear, but where
    whole pixels are moved; beyond the edge an image is reflected.
    """
    turns, corners = (found.tolist() for found in find_windows(matrices, out.shape[1]))
    for image, matrix, turned, corner, target in zip(
        images, matrices, turns, corners, out, strict=True
    ):
        if not _turn_window(image, turned, corner, target):
            warp(image, matrix, target)


def warp(image: Image, matrix: Floats, out: Image) -> None:
    """`move` of one image, resampled: uint8 [H, W, 3], [2, 3] → uint8 [S, S, 3] in `out`."""
    (xx, xy, x), (yx, yy, y) = matrix.tolist()
    step_x, step_y = math.hypot(xx, xy), math.hypot(yx, yy)
    if step_x > _LARGEST_STEP or step_y > _LARGEST_STEP:
        height, width = image.shape[:2]
        shrunk = max(round(width / max(step_x, 1)), 1), max(round(height / max(step_y, 1)), 1)
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
        matrix = np.diag([shrunk[0] / width, shrunk[1] / height]) @ matrix
        [turned], [corner] = find_windows(matrix[None], out.shape[0])
        if _turn_window(image, turned, corner, out):
            return
        (xx, xy, x), (yx, yy, y) = matrix.tolist()
    # OpenCV's places are pixel centres.
    centred = np.array([[xx, xy, x + (xx + xy - 1) / 2], [yx, yy, y + (yx + yy - 1) / 2]])
    # Four channels a pixel fill a vector register: 0.33 ms in place of 0.39 at 256 px, copies
    # included (benchmarks/stream.py).
    source = _rgba("source", *image.shape[:2])
    target = _rgba("target", *out.shape[:2])
    cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=source)
    cv2.warpAffine(source, centred, out.shape[1::-1], dst=target, flags=_FLAGS, borderMode=_BORDER)
    cv2.cvtColor(target, cv2.COLOR_RGBA2RGB, dst=out)


def to_stored(matrices: Floats, frame: Frame) -> Floats:
    """[B, 3, 3] from output to output → [B, 2, 3] from output to the stored image's own pixels."""
    scale = frame.stored_per_px[:, None, None]
    left_top = np.stack([frame.width - frame.size_px, frame.height - frame.size_px], axis=1) / 2
    stored = matrices[:, :2] * scale
    stored[:, :, 2] += left_top * scale[:, :, 0]
    return stored


def cover(matrices: Floats, frame: Frame) -> Floats:
    """[B, 3, 3] → the same zoomed in about its centre, and moved, until it lies within the image.

    For `border = "crop"`: what the output shows is then never beyond the stored image's edge.
    """
    size = frame.size_px
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64)
    places = np.einsum("bij,cj->bci", matrices[:, :2], corners)  # [B, 4, 2]
    centre = places.mean(axis=1)
    reach = np.abs(places - centre[:, None]).max(axis=1)  # half the extent, along x and y
    extent = np.stack([frame.width, frame.height], axis=1)
    shrink = np.minimum((extent / 2 / reach).min(axis=1), 1.0)
    reach = reach * shrink[:, None]
    low = (size - extent) / 2 + reach
    high = (size + extent) / 2 - reach
    moved = np.clip(centre, low, np.maximum(low, high))
    covered = matrices.copy()
    covered[:, :2, :2] *= shrink[:, None, None]
    covered[:, :2, 2] = moved + (matrices[:, :2, 2] - centre) * shrink[:, None]
    return covered


def find_windows(
    matrices: Floats, size_px: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """[B, 2, 3] → int64 [B] and [B, 2]: those that move whole pixels, and change none.

    The first is how `turn` is to turn the window, or -1 where the matrix resamples: 1 for
    transposed, + 2 for x mirrored, + 4 for y. The second is the (x, y) of the window's corner in
    the stored image; it may lie outside.
    """
    rounded = np.rint(matrices[:, :, :2])
    is_mirrored = rounded.sum(axis=1) < 0  # [B, 2], of the output's x and y
    corner = matrices[:, :, 2] - np.where(rounded.sum(axis=2) < 0, size_px, 0)
    whole = np.rint(corner)
    # An error of 1e-3 px changes a colour by less than its rounding.
    is_whole = (np.abs(matrices[:, :, :2] - rounded) * size_px < 1e-3).all(axis=(1, 2))
    is_whole &= (np.abs(corner - whole) < 1e-3).all(axis=1)
    ones = np.abs(rounded)
    is_permutation = ((ones.sum(axis=1) == 1) & (ones.sum(axis=2) == 1)).all(axis=1)
    turns = (rounded[:, 0, 0] == 0) + 2 * is_mirrored[:, 0] + 4 * is_mirrored[:, 1]
    return np.where(is_whole & is_permutation, turns, -1), whole.astype(np.int64)


def turn(image: Image, turned: int, out: Image) -> None:
    """uint8 [S, S, 3] into `out`, as `find_windows` says: transposed first, then mirrored."""
    if turned & 1:
        image = cv2.transpose(image)
    if turned >> 1:
        cv2.flip(image, {1: 1, 2: 0, 3: -1}[turned >> 1], dst=out)
    else:
        np.copyto(out, image)


def _turn_window(image: Image, turned: int, corner: Sequence[int], out: Image) -> bool:
    """Whether `turn` could do it: a window of whole pixels, all of it within the image."""
    (x, y), size_px = corner, out.shape[0]
    height, width = image.shape[:2]
    if turned < 0 or not (0 <= x <= width - size_px and 0 <= y <= height - size_px):
        return False
    turn(image[y : y + size_px, x : x + size_px], turned, out)
    return True


def _rgba(name: str, height: int, width: int) -> Image:
    """An RGBA image in memory that this thread keeps from one call to the next."""
    memory = vars(_scratch).get(name)
    if memory is None or len(memory) < height * width * 4:
        memory = vars(_scratch)[name] = np.empty(height * width * 4, np.uint8)
    rgba: Image = memory[: height * width * 4].reshape(height, width, 4)
    return rgba
