"""Source bytes → one JPEG a size, and a histogram of each. Called by the job that writes records.

The bytes of a size depend on the source, that size and the spec alone, never on which other sizes
were asked for: a size that is added later is the one that a joint run would have written. Sizes
whose `decode_scale` agrees share one decode.

Safe from any number of threads; the work is done outside the GIL. A worker that runs several should
call `cv2.setNumThreads(1)`: OpenCV's own threads would only compete with them.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.color_constancy import (
    COLOR_CONSTANCIES,
    apply_table,
    move_counts,
    shades_of_gray,
)
from pipeline.images.decode import Decoded, Source, open_source
from pipeline.images.fit import FITS, Box, Fitted, fit_box
from pipeline.images.image_error import ImageError
from pipeline.images.jpeg import MAX_SIDE_PX, encode_jpeg
from pipeline.images.resample import resample
from pipeline.images.trim import find_inside

# cv2.calcHist counts in float32: exact while no count passes 2^24 = 4096².
MAX_SIZE_PX = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderSpec:
    """What decides a rendered image's bytes, beside the source and the size."""

    fit: str = "crop"  # one of FITS
    quality: int = 95  # of the JPEG, 1–100
    decode_px: int = 256  # sizes up to this share one decode, then up to its double, and so on
    max_pixels: int = 100_000_000  # a source that claims more is refused before it is decoded
    trim_borders: bool = False  # take what is inside a dermatoscope's black frame for the image
    color_constancy: str | None = None  # one of COLOR_CONSTANCIES
    no_enlarge: bool = False  # leave a source out of the sizes that it is too small for

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"render: fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"render: quality must be in 1–100, got {self.quality}")
        if self.decode_px < 8:  # a JPEG's block
            raise ValueError(f"render: decode_px must be at least 8, got {self.decode_px}")
        if self.max_pixels < 1:
            raise ValueError(f"render: max_pixels must be at least 1, got {self.max_pixels}")
        if self.color_constancy not in (None, *COLOR_CONSTANCIES):
            known, got = ", ".join(COLOR_CONSTANCIES), self.color_constancy
            raise ValueError(f"render: color_constancy must be {known} or left out, got {got!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendered:
    """One source in all sizes; gray sources give gray JPEGs (one component)."""

    width: int  # px, of the upright source
    height: int
    images: dict[int, bytes]  # size → JPEG
    histograms: dict[int, npt.NDArray[np.int64]]  # size → [3, 256]: pixels of each value, R G B
    fitted: dict[int, Fitted]  # size → which part of the source went where; maps its boxes

    @property
    def enlarged(self) -> tuple[int, ...]:
        """The sizes that the source, or what was left of it, was too small for."""
        return tuple(size for size, fitted in self.fitted.items() if fitted.enlarges)


def refuse_enlarged(rendered: Rendered, size: int, spec: RenderSpec) -> None:
    """`ImageError` where the source is too small for a size and `no_enlarge` forbids it."""
    if spec.no_enlarge and size in rendered.enlarged:
        found = f"{rendered.width}×{rendered.height} pixels, under {size} px"
        raise ImageError("too_small", found)


def render(data: bytes, sizes: Sequence[int], spec: RenderSpec) -> Rendered:
    """Image bytes and sizes in pixels → a JPEG of each size; `ImageError` where there is no image.

    An upright gray or colour JPEG that has the size already keeps its scans bit for bit and loses
    its metadata. Histograms are of the pixels before they are encoded: exact counts, so those of
    many images add up to the same in any order.
    """
    if not sizes or not all(1 <= size <= MAX_SIZE_PX for size in sizes):
        raise ValueError(f"render: sizes must be in 1–{MAX_SIZE_PX} px, got {list(sizes)}")
    source = open_source(data, spec.max_pixels)
    decode = functools.cache(source.decode)
    find_part = functools.cache(
        lambda eighths: _find_part(source, decode(eighths), square=spec.fit == "crop")
    )
    images, histograms, placed = {}, {}, {}
    for size in sizes:
        fitted = fit_box(source.width, source.height, size, spec.fit)
        if spec.trim_borders:
            part = find_part(_eighths(source, fitted, spec))
            fitted = fit_box(source.width, source.height, size, spec.fit, part)
        _check_output(fitted, size, spec)
        pixels = _fit_pixels(decode(_eighths(source, fitted, spec)), fitted)
        histogram = _histogram(pixels)
        kept = source.keep_jpeg() if _is_untouched(source, fitted, spec) else None
        if spec.color_constancy:
            table = shades_of_gray(histogram)
            pixels, histogram = apply_table(pixels, table), move_counts(histogram, table)
        images[size] = kept or encode_jpeg(pixels, spec.quality)
        histograms[size], placed[size] = histogram, fitted
    return Rendered(
        width=source.width,
        height=source.height,
        images=images,
        histograms=histograms,
        fitted=placed,
    )


def _eighths(source: Source, fitted: Fitted, spec: RenderSpec) -> int:
    return decode_scale(fitted, spec.decode_px) if source.is_plain_jpeg else 8


def _is_untouched(source: Source, fitted: Fitted, spec: RenderSpec) -> bool:
    """Whether the output's pixels are the source's, all of them and in their places."""
    whole = (0, 0, source.width, source.height)
    return not spec.color_constancy and fitted.crop == fitted.target == whole


def _check_output(fitted: Fitted, size: int, spec: RenderSpec) -> None:
    width, height = fitted.width_px, fitted.height_px
    if width * height > MAX_SIZE_PX**2 or max(width, height) > MAX_SIDE_PX:
        raise ImageError("too_large", f"{width}×{height} pixels at {size} px and fit {spec.fit}")


def _find_part(source: Source, decoded: Decoded, *, square: bool) -> Box | None:
    """What `find_inside` finds, on whole pixels of the source."""
    found = find_inside(decoded.pixels, square=square)
    if found is None:
        return None
    scale, (x, y) = 8 / decoded.eighths, decoded.origin
    x0, y0, x1, y1 = found
    left, top = math.ceil((x0 - x) * scale), math.ceil((y0 - y) * scale)
    right, bottom = math.floor((x1 - x) * scale), math.floor((y1 - y) * scale)
    return max(0, left), max(0, top), min(source.width, right), min(source.height, bottom)


def decode_scale(fitted: Fitted, decode_px: int) -> int:
    """Where a source goes, and `RenderSpec.decode_px` → the eighths of its size to decode it at.

    The smallest of 1, 2, 4 and 8 that leaves the resampler something to shrink, both for this size
    and for the largest one that shares its decode: `decode_px` times the power of two that covers
    the size. libjpeg-turbo has vector code for these four; decoding at 3/8 takes longer than at 4/8
    (benchmarks/render_quality.py).
    """
    target = max(fitted.target_width_px, fitted.target_height_px)
    largest = decode_px
    while largest < target:
        largest *= 2
    x0, y0, x1, y1 = fitted.crop
    # What the crop's sides come to on the scale of the output's longer one.
    across = (x1 - x0) * target / fitted.target_width_px
    down = (y1 - y0) * target / fitted.target_height_px
    for eighths in (1, 2, 4):
        if min(across, down) * eighths >= 8 * largest:
            return eighths
    return 8


def _fit_pixels(decoded: Decoded, fitted: Fitted) -> npt.NDArray[np.uint8]:
    """The source's pixels in their place in the output; around them, black."""
    scale, (x, y) = decoded.eighths / 8, decoded.origin
    x0, y0, x1, y1 = (edge * scale for edge in fitted.crop)
    part = resample(
        decoded.pixels,
        (x + x0, y + y0, x + x1, y + y1),
        fitted.target_width_px,
        fitted.target_height_px,
    )
    left, top, right, bottom = fitted.target
    if part.shape[:2] == (fitted.height_px, fitted.width_px):
        return part
    canvas = np.zeros((fitted.height_px, fitted.width_px, *part.shape[2:]), np.uint8)
    canvas[top:bottom, left:right] = part
    return canvas


def _histogram(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """uint8 [H, W, 3] or [H, W] → int64 [3, 256]; gray counts the same in each channel."""
    channels = 1 if pixels.ndim == 2 else 3
    counts = [
        cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel()
        for channel in range(channels)
    ]
    return np.broadcast_to(np.array(counts, np.int64), (3, 256)).copy()
