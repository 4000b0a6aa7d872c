"""64-bit hashes of thumbnails, of each of the 8 turns and of slightly cropped views.

A bit is the sign of one of the 64 lowest frequencies of the cosine transform, u² + v² ≤ 72 without
the mean (after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
That set is closed under turns, and a turn of the image changes signs and swaps u with v: all eight
hashes come of one transform. The signs of neighbouring images of one kind are nearly independent,
which banding needs; hashes of local contrast are not: black corners and a dark centre, which all
dermoscopy images have, set most of their bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.duplicates.thumbnail import THUMBNAIL_PX, Thumbnails

HASH_BITS = 64
BANDS = 4  # of 16 bits: bits 0–15 are the first
_MAX_RADIUS_SQUARED = 72  # exactly 64 frequencies

Hashes = npt.NDArray[np.uint64]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 as fractions of the thumbnail's side

# What is looked at of an image that may be the whole of another, cropped one: itself, and what is
# left when 4 % of the sides are cut off around it, or 7 % in nine places. A crop of up to 8 %,
# wherever it was cut, is within 4 % of one of them. (benchmarks/duplicates.py)
VIEWS: tuple[Box, ...] = (
    (0, 0, 1, 1),
    (0.02, 0.02, 0.98, 0.98),
    *((x, y, x + 0.93, y + 0.93) for y in (0, 0.035, 0.07) for x in (0, 0.035, 0.07)),
)

# (transpose, then flip rows, flip columns); the first leaves all as it is.
TURNS = tuple((bool(number & 1), bool(number & 2), bool(number & 4)) for number in range(8))


def hash_turns(thumbnails: Thumbnails) -> Hashes:
    """uint8 [N, 48, 48] → uint64 [N, 8]: the hash of each image in each of `TURNS`."""
    bits = _bits(thumbnails, VIEWS[0])
    turned = []
    for transpose, flip_rows, flip_columns in TURNS:
        image = bits[:, _TRANSPOSED] if transpose else bits
        is_odd = (flip_rows * _DOWN + flip_columns * _ACROSS) % 2 == 1
        turned.append(_pack(image ^ is_odd))
    hashes: Hashes = np.stack(turned, axis=1)
    return hashes


def hash_views(thumbnails: Thumbnails) -> Hashes:
    """uint8 [N, 48, 48] → uint64 [N, 11]: the hash of each of `VIEWS`, upright."""
    return np.stack([_pack(_bits(thumbnails, box)) for box in VIEWS], axis=1)


def turn(thumbnails: Thumbnails, number: int) -> Thumbnails:
    """[N, H, H] → a view of it, each image in the turn `TURNS[number]`."""
    transpose, flip_rows, flip_columns = TURNS[number]
    if transpose:
        thumbnails = thumbnails.transpose(0, 2, 1)
    return thumbnails[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _frequencies() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(down, across), half waves a side, each int64 [64]; the bands share low and high ones."""
    grid = np.indices((9, 9)).reshape(2, -1).T[1:]
    radius = (grid**2).sum(axis=1)
    grid = grid[np.argsort(radius, kind="stable")]
    grid = grid[: np.count_nonzero(radius <= _MAX_RADIUS_SQUARED)]
    assert len(grid) == HASH_BITS, len(grid)
    grid = grid.reshape(-1, BANDS, 2).swapaxes(0, 1).reshape(-1, 2)
    return grid[:, 0], grid[:, 1]


_DOWN, _ACROSS = _frequencies()
# Of each bit the one that it becomes when the image is transposed.
_TRANSPOSED = np.lexsort((_ACROSS, _DOWN))[np.argsort(np.lexsort((_DOWN, _ACROSS)))]


def _bits(thumbnails: Thumbnails, box: Box) -> npt.NDArray[np.bool_]:
    x0, y0, x1, y1 = box
    down, across = _cosines(y0, y1), _cosines(x0, x1)
    spectrum = down @ thumbnails.astype(np.float32) @ across.T
    return np.asarray(spectrum[:, _DOWN, _ACROSS] > 0)


def _cosines(start: float, end: float) -> npt.NDArray[np.float32]:
    """float32 [9, 48]: cos(π u s), s from 0 to 1 between the edges, integrated over each pixel.

    Exact for edges that cut a pixel, so that a constant image has no frequency but 0.
    """
    edges = (np.arange(THUMBNAIL_PX + 1) / THUMBNAIL_PX - start) / (end - start)
    edges = np.clip(edges, 0, 1)
    u = np.arange(9)[:, None]
    integrals = np.where(u > 0, np.sin(np.pi * u * edges) / (np.pi * np.maximum(u, 1)), edges)
    return np.diff(integrals, axis=1).astype(np.float32)


def _pack(bits: npt.NDArray[np.bool_]) -> Hashes:
    """bool [N, 64] → uint64 [N], bit 0 the lowest on every machine."""
    octets = np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little"))
    return octets.view("<u8")[:, 0].astype(np.uint64)
