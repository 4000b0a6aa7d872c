"""Source bytes → one JPEG a size, and a histogram of each. Called by the job that writes records.

The bytes of a size depend on the source, that size and the spec alone, never on which other sizes
were asked for: a size that is added later is the one that a joint run would have written. Sizes
whose `decode_scale` agrees share one decode.

Safe from any number of threads; the work is done outside the GIL. A worker that runs several should
call `cv2.setNumThreads(1)`: OpenCV's own threads would only compete with them.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.decode import Decoded, open_source
from pipeline.images.fit import FITS, Fitted, fit_box
from pipeline.images.jpeg import encode_jpeg, strip_metadata
from pipeline.images.resample import resample

# cv2.calcHist counts in float32: exact while no count passes 2^24 = 4096².
MAX_SIZE_PX = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderSpec:
    """What decides a rendered image's bytes, beside the source and the size."""

    fit: str = "crop"  # one of FITS
    quality: int = 95  # of the JPEG, 1–100
    decode_px: int = 256  # sizes up to this share one decode, then up to its double, and so on
    max_pixels: int = 100_000_000  # a source that claims more is refused before it is decoded

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"render: fit must be one of {', '.join(FITS)}, got {self.fit!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"render: quality must be in 1–100, got {self.quality}")
        if self.decode_px < 8:  # a JPEG's block
            raise ValueError(f"render: decode_px must be at least 8, got {self.decode_px}")
        if self.max_pixels < 1:
            raise ValueError(f"render: max_pixels must be at least 1, got {self.max_pixels}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendered:
    """One source in all sizes; gray sources give gray JPEGs (one component)."""

    width: int  # px, of the upright source
    height: int
    images: dict[int, bytes]  # size → JPEG
    histograms: dict[int, npt.NDArray[np.int64]]  # size → [3, 256]: pixels of each value, R G B


def render(data: bytes, sizes: Sequence[int], spec: RenderSpec) -> Rendered:
    """Image bytes and sizes in pixels → a JPEG of each size; `ImageError` where there is no image.

    An upright gray or colour JPEG that has the size already keeps its scans bit for bit and loses
    its metadata. Histograms are of the pixels before they are encoded: exact counts, so those of
    many images add up to the same in any order.
    """
    if not sizes or not all(1 <= size <= MAX_SIZE_PX for size in sizes):
        raise ValueError(f"render: sizes must be in 1–{MAX_SIZE_PX} px, got {list(sizes)}")
    source = open_source(data, spec.max_pixels)
    decoded: dict[int, Decoded] = {}
    images, histograms = {}, {}
    for size in sizes:
        fitted = fit_box(source.width, source.height, size, spec.fit)
        eighths = decode_scale(fitted, spec.decode_px) if source.is_plain_jpeg else 8
        if eighths not in decoded:
            decoded[eighths] = source.decode(eighths)
        pixels = _fit_pixels(decoded[eighths], fitted)
        histograms[size] = _histogram(pixels)
        is_ready = source.is_upright_jpeg and source.width == source.height == size
        images[size] = strip_metadata(data) if is_ready else encode_jpeg(pixels, spec.quality)
    return Rendered(width=source.width, height=source.height, images=images, histograms=histograms)


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
