"""Pictures → the pixels of a batch, by all cores of the host; called within the stream's `map`.

In Python threads, not in TensorFlow's ops: libjpeg-turbo and OpenCV release the interpreter's lock
and do a warp in 0.33 ms where `ImageProjectiveTransformV3` takes 2.9. What is left to the lock is
some 20 µs an image (benchmarks/stream.py tells where it binds). An op of the host's own process
runs there only: the stream of a slice of several TPU hosts needs a process on each.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from pipeline.images.decode import open_source
from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.ops import Image
from pipeline.stream.views import View

# Images a thread renders in one go: the draws of a chunk are one numpy expression an op.
CHUNK = 16
_MAX_PIXELS = 100_000_000  # of a record; the default of make_records


def in_chunks(work: Callable[[slice], None], count: int, chunk: int = CHUNK) -> None:
    """Calls `work` with slices that cover range(count), on all cores; raises what it raises."""
    slices = [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    for future in [_workers().submit(work, part) for part in slices]:
        future.result()


class Pictures(Protocol):
    """Of `pipeline.stream.source.Examples`, what rendering needs."""

    def pictures(self, keys: Any) -> Sequence[Image]: ...
    def fill(self, keys: Any, out: npt.NDArray[np.uint8]) -> None: ...


def render_batch(
    source: Pictures,
    keys: Any,
    chain: Chain,
    op_seeds: Sequence[int],
    places: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """B keys of pictures → uint8 [B, S, S, 3], each augmented by what its place draws."""
    out = np.empty((len(keys), chain.size_px, chain.size_px, 3), np.uint8)

    def work(part: slice) -> None:
        if chain.is_empty:
            source.fill(keys[part], out[part])
        else:
            chain.apply(source.pictures(keys[part]), op_seeds, places[part], out[part])

    in_chunks(work, len(keys))
    return out


def render_views(
    source: Pictures, keys: Any, views: Sequence[View], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """B keys of pictures → uint8 [B * V, S, S, 3]: of each its views, for which it is decoded once.

    Of one size the pictures must be, unless a view asks for them as they are stored.
    """
    size_px = views[0].chain.size_px
    out = np.empty((len(keys), len(views), size_px, size_px, 3), np.uint8)

    pictures: list[Image] = [out[0, 0]] * len(keys)
    starts = range(0, len(keys), CHUNK)
    # A few examples in many views keep as many threads busy as many examples do.
    parts = [(place, slice(at, at + CHUNK)) for place in range(len(views)) for at in starts]

    def read(part: slice) -> None:
        pictures[part] = source.pictures(keys[part])

    def draw(part: slice) -> None:
        for place, examples in parts[part]:
            view, there = views[place], out[examples, place]
            view.chain.apply(pictures[examples], view.op_seeds, rows[examples], there)

    in_chunks(read, len(keys), max(CHUNK // len(views), 1))
    in_chunks(draw, len(parts), 1)
    return out.reshape(-1, *out.shape[2:])


def decode(data: bytes, size_px: int | None, *, is_swapped: bool = False) -> Image:
    """JPEG bytes, gray or colour → uint8 [H, W, 3] RGB; with `size_px` its central square of that.

    `is_swapped` tells of a writer that took blue for red. ImageError for what is no image.
    """
    try:
        image: Image = simplejpeg.decode_jpeg(data, "BGR" if is_swapped else "RGB")
    except ValueError:  # CMYK, another format, or bytes that it warns of
        pixels = open_source(data, _MAX_PIXELS).decode(8).pixels
        image = np.stack([pixels] * 3, axis=2) if pixels.ndim == 2 else pixels
        image = np.ascontiguousarray(image[..., ::-1]) if is_swapped else image
    return image if size_px is None else shrink(image, size_px)


def shrink(image: Image, size_px: int) -> Image:
    """uint8 [H, W, 3] → uint8 [size_px, size_px, 3] of its central square: means over areas."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side < size_px:
        raise ValueError(f"a stored image must have sides of at least {size_px} px, got {side}")
    if side == size_px:
        return image
    shrunk: Image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return shrunk


@functools.cache
def _workers() -> concurrent.futures.ThreadPoolExecutor:
    """One thread a core, for all streams of the process."""
    cv2.setNumThreads(1)  # OpenCV's own threads would only compete with these
    return concurrent.futures.ThreadPoolExecutor(
        len(os.sched_getaffinity(0)), thread_name_prefix="render"
    )
