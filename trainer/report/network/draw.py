"""Maps as pictures: an overlay on an image, and a sheet of a layer's channels. cv2 alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.jpeg import encode_jpeg
from trainer.report.page.pictures import PICTURE_PX

CHANNELS = 16  # of a sheet, in rows of four
_ACROSS, _CELL_PX, _GAP_PX = 4, 68, 4
_STRONGEST = 0.65  # the overlay's opacity where a map is highest
_WARMEST = 222  # of the colour map's 255 levels: above, it grows dark again
_QUALITY = 85


def overlay(image: npt.NDArray[np.uint8], cam: npt.NDArray[np.float32]) -> bytes:
    """uint8 [S, S, 3] and float32 [h, w], 0 or more -> JPEG bytes of PICTURE_PX a side.

    The map is scaled to its own highest value; where it is 0, the image is as it was.
    """
    size = (PICTURE_PX, PICTURE_PX)
    way = cv2.INTER_AREA if image.shape[0] > PICTURE_PX else cv2.INTER_CUBIC
    below = cv2.resize(image, size, interpolation=way).astype(np.float32)
    heat = cv2.resize(cam / max(float(cam.max()), 1e-12), size, interpolation=cv2.INTER_LINEAR)
    heat = np.clip(heat, 0, 1)
    levels = np.round(_WARMEST * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    opacity = _STRONGEST * heat[..., None]
    blended = below * (1 - opacity) + colours * opacity
    return encode_jpeg(np.ascontiguousarray(np.round(blended).astype(np.uint8)), _QUALITY)


def channel_sheet(maps: npt.NDArray[np.float32]) -> bytes:
    """float32 [h, w, C] -> JPEG bytes: the CHANNELS of the largest mean size, each on its scale."""
    order = np.argsort(-np.abs(maps).mean(axis=(0, 1)), kind="stable")[:CHANNELS]
    rows = -(-len(order) // _ACROSS)
    step = _CELL_PX + _GAP_PX
    sheet = np.full((rows * step - _GAP_PX, _ACROSS * step - _GAP_PX, 3), 255, np.uint8)
    for place, channel in enumerate(order):
        of = maps[..., channel]
        span = float(np.ptp(of))
        levels = np.round(255 * (of - of.min()) / (span or 1)).astype(np.uint8)
        cell = cv2.resize(levels, (_CELL_PX, _CELL_PX), interpolation=cv2.INTER_NEAREST)
        top, left = step * (place // _ACROSS), step * (place % _ACROSS)
        coloured = cv2.applyColorMap(cell, cv2.COLORMAP_VIRIDIS)[..., ::-1]
        sheet[top : top + _CELL_PX, left : left + _CELL_PX] = coloured
    return encode_jpeg(sheet, _QUALITY)
