"""Ops that draw what a dermoscope also sees: hairs over the lesion, and the rim of its own tube.

In place, uint8 [S, S, 3]. Both are common in the ISIC archive and tell nothing of the diagnosis.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from pipeline.stream.augment.ops import Floats, Image, check_probability, check_range

_FINENESS = 4  # hairs are drawn so many times larger, then shrunk: widths in quarters of a pixel
_POINTS = 24  # of a curve
_FIXED = 4  # binary places of OpenCV's coordinates
# What a hair swallows of red, green and blue, from black hair to brown.
_BLACK, _BROWN = np.array([0.93, 0.97, 1.0]), np.array([0.65, 0.88, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hair:
    """Draws dark curved strokes that taper to their tips, most of them along one direction.

    A hair takes light away, so over a dark lesion it is darker still. The image's hairs have one
    colour, between black and brown.
    """

    number: tuple[int, int]  # both ends included
    width: tuple[float, float] = (0.002, 0.008)  # as fractions of the image's side
    darkness: tuple[float, float] = (0.4, 0.9)  # share of the light that it takes
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("hair", "number", self.number, 1, 1000)
        check_range("hair", "width", self.width, 0.001, 0.1)
        check_range("hair", "darkness", self.darkness, 0, 1)
        check_probability("hair", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        side = image.shape[0]
        number = int(rng.integers(*self.number, endpoint=True))
        fine = side * _FINENESS
        outlines = _outlines(number, self.width, 1 / fine, rng) * (fine * 2**_FIXED)
        cover = np.zeros((fine, fine), np.uint8)
        darkness = rng.uniform(*self.darkness, number)
        for outline, level in zip(np.rint(outlines).astype(np.int32), darkness, strict=True):
            cv2.fillPoly(cover, [outline], 255 * level, shift=_FIXED)
        cover = cv2.resize(cover, (side, side), interpolation=cv2.INTER_AREA)
        _darken(image, cover, _BLACK + rng.random() * (_BROWN - _BLACK))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vignette:
    """Blackens what lies outside of a circle about the centre, as a microscope's tube does."""

    radius: tuple[float, float] = (0.9, 1.15)  # as fractions of half the side; the corner is 1.41
    softness: float = 0.02  # of its edge: a Gaussian's sigma, as a fraction of half the side
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("vignette", "radius", self.radius, 0.1, 2)
        if not 0 <= self.softness <= 0.5:
            raise ValueError(f"vignette: softness must be in [0, 0.5], got {self.softness}")
        check_probability("vignette", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        half = image.shape[0] / 2
        radius_px = half * rng.uniform(*self.radius)
        across = np.arange(image.shape[0], dtype=np.float32) + np.float32(0.5 - half)
        distance_px = np.sqrt(across[:, None] ** 2 + across**2)
        # A logistic curve is a normal distribution's to within 0.01 when its slope is 1.7.
        width_px = max(half * self.softness, 0.3) / 1.702
        cover = 255 / (1 + np.exp(np.clip((radius_px - distance_px) / width_px, -30, 30)))
        _darken(image, np.rint(cover).astype(np.uint8), np.ones(3))


def _outlines(
    number: int, width: tuple[float, float], pen: float, rng: np.random.Generator
) -> Floats:
    """[number, 2 * _POINTS, 2] places of closed outlines, as fractions of the image's side.

    `pen` is the width of the line that OpenCV draws around what it fills.
    """
    length = rng.uniform(0.4, 1.5, (number, 1))
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.5, (number, 1))
    along = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    across = along[:, ::-1] * [-1, 1]
    # A cubic through two bends: a C where they agree, an S where they do not.
    bends = rng.normal(0, 0.12, (number, 2)) * length + rng.normal(0, 0.1, (number, 1)) * length
    t = np.linspace(0, 1, _POINTS)
    aside = 3 * t * (1 - t) * ((1 - t) * bends[:, :1] + t * bends[:, 1:])  # [number, points]
    ahead = (t - 0.5) * length
    curve = rng.uniform(0, 1, (number, 1, 2)) + (
        ahead[:, :, None] * along[:, None] + aside[:, :, None] * across[:, None]
    )
    tangent = np.gradient(curve, axis=1)
    normal = tangent[:, :, ::-1] * [-1, 1]
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    # Full width at the root, and from half way on thinner towards the tip.
    taper = np.minimum(1, 2.2 * (1 - t) + 0.15)[:, None]
    half_width = np.maximum(rng.uniform(*width, (number, 1, 1)) * taper - pen, 0) / 2
    return np.concatenate(
        [curve + half_width * normal, (curve - half_width * normal)[:, ::-1]], axis=1
    )


def _darken(image: Image, cover: Image, absorbed: Floats) -> None:
    """uint8 [S, S, 3] in place: where uint8 [S, S] is 255, these shares of RGB are lost."""
    left = 255 - np.arange(256)[:, None] * absorbed
    tones = np.rint(left).astype(np.uint8).reshape(1, 256, 3)
    cv2.multiply(image, cv2.LUT(cv2.cvtColor(cover, cv2.COLOR_GRAY2RGB), tones), image, 1 / 255)
