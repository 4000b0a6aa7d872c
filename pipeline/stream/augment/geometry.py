"""Ops that move pixels: each a matrix from a place in the output to its place before the op.

Turns, shears and zooms keep the centre of the square where it is. What they bring in from beyond
the edge is the chain's matter (`border`); the ops that take a window are in `crops`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from pipeline.stream.augment.ops import Floats, Frame, check_probability


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipLeftRight:
    """Mirrors the image: x becomes size - x."""

    draws: ClassVar[int] = 0
    needs_stored: ClassVar[bool] = False
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("flip_left_right", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        return _same([[-1, 0, frame.size_px], [0, 1, 0], [0, 0, 1]], u)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipUpDown:
    """Turns the image upside down: y becomes size - y."""

    draws: ClassVar[int] = 0
    needs_stored: ClassVar[bool] = False
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("flip_up_down", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        return _same([[1, 0, 0], [0, -1, frame.size_px], [0, 0, 1]], u)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transpose:
    """Swaps x and y; with both flips it gives the eight symmetries of the square."""

    draws: ClassVar[int] = 0
    needs_stored: ClassVar[bool] = False
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("transpose", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        return _same([[0, 1, 0], [1, 0, 0], [0, 0, 1]], u)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """Turns the image by an angle of [-max_angle_deg, max_angle_deg); above 0 is clockwise."""

    draws: ClassVar[int] = 1
    needs_stored: ClassVar[bool] = False
    max_angle_deg: float = 180.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_angle_deg <= 180:
            raise ValueError(
                f"rotation: max_angle_deg must be in [0, 180], got {self.max_angle_deg}"
            )
        check_probability("rotation", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        angle = np.deg2rad(_spread(u[:, 0]) * self.max_angle_deg)
        cos, sin = np.cos(angle), np.sin(angle)
        return _about_centre(cos, sin, -sin, cos, frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shear:
    """Slants the image vertically: columns slide along y in proportion to x.

    By an angle a of [-max_angle_deg, max_angle_deg): what was at (x cos a, y + x sin a) comes to
    (x, y), as in the affine augmentation that notebooks of Kaggle's TPU competitions share
    (kaggle.com/code/cdeotte/rotation-augmentation-gpu-tpu-0-96). These draw from a normal
    distribution; 2 there is a standard deviation.
    """

    draws: ClassVar[int] = 1
    needs_stored: ClassVar[bool] = False
    max_angle_deg: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_angle_deg <= 60:
            raise ValueError(f"shear: max_angle_deg must be in [0, 60], got {self.max_angle_deg}")
        check_probability("shear", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        angle = np.deg2rad(_spread(u[:, 0]) * self.max_angle_deg)
        zero = np.zeros_like(angle)
        return _about_centre(np.cos(angle), zero, np.sin(angle), zero + 1, frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoom:
    """Enlarges or shrinks the image by a factor of [1 / (1 + max_fraction), 1 + max_fraction).

    Its logarithm is uniform: as often larger as smaller, and by as much.
    """

    draws: ClassVar[int] = 2
    needs_stored: ClassVar[bool] = False
    max_fraction: float  # 0.12: up to 12 % larger
    per_axis: bool = False  # a factor for x and one for y
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_fraction <= 4:
            raise ValueError(f"zoom: max_fraction must be in [0, 4], got {self.max_fraction}")
        check_probability("zoom", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        x, y = (1 + self.max_fraction) ** _spread(u if self.per_axis else u[:, [0, 0]]).T
        zero = np.zeros_like(x)
        return _about_centre(1 / x, zero, zero, 1 / y, frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """Moves the image along x and along y, each by [-max_px, max_px) pixels of the output."""

    draws: ClassVar[int] = 2
    needs_stored: ClassVar[bool] = False
    max_px: float
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_px < np.inf:
            raise ValueError(f"shift: max_px must be 0 or more and finite, got {self.max_px}")
        check_probability("shift", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        matrices = np.tile(np.eye(3), (len(u), 1, 1))
        matrices[:, :2, 2] = -_spread(u) * self.max_px
        return matrices


def _spread(u: Floats) -> Floats:
    """[0, 1) → [-1, 1)."""
    return 2 * u - 1


def _same(matrix: list[list[int]], u: Floats) -> Floats:
    """One matrix for every example: [B, 3, 3]."""
    return np.broadcast_to(np.array(matrix, np.float64), (len(u), 3, 3))


def _about_centre(xx: Floats, xy: Floats, yx: Floats, yy: Floats, frame: Frame) -> Floats:
    """[B] each of a linear map, which the square's centre is to be the origin of → [B, 3, 3]."""
    matrices = np.tile(np.eye(3), (len(xx), 1, 1))
    linear = np.stack([np.stack([xx, xy], axis=1), np.stack([yx, yy], axis=1)], axis=1)
    matrices[:, :2, :2] = linear
    matrices[:, :2, 2] = frame.size_px / 2 * (1 - linear.sum(axis=2))
    return matrices
