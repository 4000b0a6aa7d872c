"""The same skin under every lamp: one gain a channel, from the picture's own values. For `render`.

Dermatoscopes differ in lamp and white balance, and so do the clinics that label; a network may
learn the clinic from the cast. Gains are estimated from the rendered pixels, not from the source:
they see no border that was trimmed, and the histogram that they need is counted already, so that
all that is left to pay for is one table look-up a pixel. Black padding weighs the same in every
channel and moves nothing.
"""

import cv2
import numpy as np
import numpy.typing as npt

COLOR_CONSTANCIES = ("shades_of_gray",)

NORM = 6  # Finlayson and Trezzi's best; 1 would be gray world, ∞ the brightest pixel


def shades_of_gray(histogram: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """int64 [3, 256], pixels of each value → uint8 [3, 256], the value that each becomes.

    The light's colour is the Minkowski mean of each channel, here taken to neutral gray of equal
    length (G. D. Finlayson and E. Trezzi, "Shades of Gray and Colour Constancy", CIC 12, 2004,
    equation 6; for dermoscopy C. Barata, M. E. Celebi and J. S. Marques, "Improving Dermoscopy
    Image Classification Using Color Constancy", IEEE JBHI 19, 2015). Gray stays as it is.
    """
    values = np.arange(256)
    powers = histogram @ (values / 255) ** NORM / histogram.sum(axis=1)
    light = powers ** (1 / NORM)
    neutral = np.sqrt(np.mean(light**2))
    # A channel without any light has nothing to gain from.
    gains = np.divide(neutral, light, out=np.ones(3), where=light > 0)
    gained = np.minimum(gains[:, np.newaxis] * values, 255)
    table: npt.NDArray[np.uint8] = np.rint(gained).astype(np.uint8)
    return table


def apply_table(
    pixels: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] or [H, W] → the same with each value looked up in its channel's [3, 256]."""
    by_value = table[0] if pixels.ndim == 2 else np.ascontiguousarray(table.T)[None]
    looked_up: npt.NDArray[np.uint8] = cv2.LUT(pixels, by_value)
    return looked_up


def move_counts(
    histogram: npt.NDArray[np.int64], table: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """int64 [3, 256] before `apply_table` → after it, without looking at the pixels again."""
    moved = np.zeros_like(histogram)
    for channel in range(3):
        np.add.at(moved[channel], table[channel], histogram[channel])
    return moved
