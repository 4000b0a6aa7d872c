"""A box of an image, with fractional edges, → an image of whole size. Called by `render`.

A JPEG decoded at an eighth, a quarter or a half has pixels of exactly 8, 4 or 2 source pixels, so a
crop on whole source pixels has fractional edges in it. Rounding them shifts the image by up to half
a pixel, and costs more decibels than all else here together (benchmarks/render_quality.py).
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.fit import Box


def resample(
    image: npt.NDArray[np.uint8], box: Box, width: int, height: int
) -> npt.NDArray[np.uint8]:
    """uint8 [h, w(, 3)] and a box in its pixels → uint8 [height, width(, 3)].

    Halved by exact 2×2 means while it is at least twice too large, then interpolated linearly at
    less than two pixels a step; an image that is too small is enlarged cubically.
    """
    x0, y0, x1, y1 = box
    left, top = math.floor(x0), math.floor(y0)
    image = image[top : math.ceil(y1), left : math.ceil(x1)]
    # The box from here on: its corner and its sides, in pixels of the image as it gets smaller.
    x, y, box_width, box_height = x0 - left, y0 - top, x1 - x0, y1 - y0
    while box_width >= 2 * width or box_height >= 2 * height:
        by_x, by_y = 1 + (box_width >= 2 * width), 1 + (box_height >= 2 * height)
        image = _shrunk(image, by_x, by_y)
        x, y, box_width, box_height = x / by_x, y / by_y, box_width / by_x, box_height / by_y
    enlarges = box_width <= width or box_height <= height
    interpolation = cv2.INTER_CUBIC if enlarges else cv2.INTER_LINEAR
    resampled: npt.NDArray[np.uint8]
    if (x, y, box_width, box_height) == (0, 0, image.shape[1], image.shape[0]):
        # The same mapping, at less than half the time.
        resampled = cv2.resize(image, (width, height), interpolation=interpolation)
        return resampled
    # Output pixel i has its centre at i + 0.5, and so has pixel j of the image at j + 0.5.
    step_x, step_y = box_width / width, box_height / height
    matrix = np.array([[step_x, 0, x + step_x / 2 - 0.5], [0, step_y, y + step_y / 2 - 0.5]])
    resampled = cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return resampled


def _shrunk(image: npt.NDArray[np.uint8], by_x: int, by_y: int) -> npt.NDArray[np.uint8]:
    """Means of by_y × by_x pixels; an odd last row or column is doubled to make up the number."""
    height, width = image.shape[:2]
    if height % by_y or width % by_x:
        image = cv2.copyMakeBorder(image, 0, height % by_y, 0, width % by_x, cv2.BORDER_REPLICATE)
        height, width = image.shape[:2]
    shrunk: npt.NDArray[np.uint8] = cv2.resize(
        image, (width // by_x, height // by_y), interpolation=cv2.INTER_AREA
    )
    return shrunk
