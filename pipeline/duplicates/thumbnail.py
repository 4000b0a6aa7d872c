"""Image bytes → the small gray square that hashes and comparisons are made of.

Called by the workers of `beam_jobs.find_duplicates`, from several threads.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.decode import open_source
from pipeline.images.fit import fit_box
from pipeline.images.render import decode_scale
from pipeline.images.resample import resample

THUMBNAIL_PX = 48

Thumbnails = npt.NDArray[np.uint8]  # [N, 48, 48]


def draw_thumbnail(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Image bytes → uint8 [48, 48] gray; `ImageError` where there is no image.

    The centred square of the upright image, as records hold it: an original and a record that was
    made of it are the same picture.
    """
    source = open_source(data, max_pixels)
    fitted = fit_box(source.width, source.height, THUMBNAIL_PX, "crop")
    decoded = source.decode(decode_scale(fitted, THUMBNAIL_PX) if source.is_plain_jpeg else 8)
    scale, (x, y) = decoded.eighths / 8, decoded.origin
    x0, y0, x1, y1 = (edge * scale for edge in fitted.crop)
    box = (x + x0, y + y0, x + x1, y + y1)
    pixels = resample(decoded.pixels, box, THUMBNAIL_PX, THUMBNAIL_PX)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return pixels
