"""Ops that map colours linearly: each a 3×4 matrix, offsets as fractions of full scale."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from pipeline.stream.augment.ops import Floats, check_probability, check_range

_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness:
    """Adds one offset an image, drawn from [-max_delta, max_delta)."""

    draws: ClassVar[int] = 1
    max_delta: float  # as a fraction of full scale
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_delta < 1:
            raise ValueError(f"brightness: max_delta must be in [0, 1), got {self.max_delta}")
        check_probability("brightness", self.probability)

    def colours(self, u: Floats, mean: Floats) -> Floats:
        delta = (2 * u[:, 0] - 1) * self.max_delta
        return _maps(np.broadcast_to(np.eye(3), (len(u), 3, 3)), np.repeat(delta[:, None], 3, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """Multiplies each channel's distance from its mean by one factor an image."""

    draws: ClassVar[int] = 1
    factor: tuple[float, float]
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("contrast", "factor", self.factor, 0, 10)
        check_probability("contrast", self.probability)

    def colours(self, u: Floats, mean: Floats) -> Floats:
        factor = _between(u, self.factor)
        return _maps(factor[:, :, None] * np.eye(3), (1 - factor) * mean)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saturation:
    """Multiplies each pixel's distance from the gray of its luma (BT.601) by one factor an image.

    Luma is kept; 0 makes the image gray.
    """

    draws: ClassVar[int] = 1
    factor: tuple[float, float]
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("saturation", "factor", self.factor, 0, 10)
        check_probability("saturation", self.probability)

    def colours(self, u: Floats, mean: Floats) -> Floats:
        factor = _between(u, self.factor)[:, :, None]
        gray = np.broadcast_to(_LUMA, (3, 3))
        return _maps(factor * np.eye(3) + (1 - factor) * gray, np.zeros((len(u), 3)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hue:
    """Turns colours about the gray axis of the RGB cube by [-max_angle_deg, max_angle_deg).

    A rotation, so linear, unlike a shift of HSV's hue: grays and the sum of the channels stay, and
    120 degrees make red green.
    """

    draws: ClassVar[int] = 1
    max_angle_deg: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_angle_deg <= 180:
            raise ValueError(f"hue: max_angle_deg must be in [0, 180], got {self.max_angle_deg}")
        check_probability("hue", self.probability)

    def colours(self, u: Floats, mean: Floats) -> Floats:
        angle = np.deg2rad((2 * u[:, :1] - 1) * self.max_angle_deg)[:, :, None]
        # Rodrigues' formula for the axis (1, 1, 1) / sqrt(3).
        along = np.full((3, 3), 1 / 3)
        across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        turned = np.cos(angle) * (np.eye(3) - along) + np.sin(angle) * across + along
        return _maps(turned, np.zeros((len(u), 3)))


def _between(u: Floats, bounds: tuple[float, float]) -> Floats:
    """[B, 1] in [0, 1) → [B, 1] in [low, high)."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _maps(matrices: Floats, offsets: Floats) -> Floats:
    """[B, 3, 3], [B, 3] → [B, 3, 4]."""
    return np.concatenate([matrices, offsets[:, :, None]], axis=2)
