"""Ops whose output is a window of the stored image, at all the detail that was stored.

Records made with `--fit short` or `long`, or of a larger size than the batch's, give them room.
They take their window from the picture as it was stored, so `recipe` asks for them first of all
geometry. Those that draw nothing are test-time views (`pipeline.stream.views`), and in no recipe.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from pipeline.stream.augment.ops import Floats, Frame, check_probability, check_range

_TRIES = 10  # as torchvision's RandomResizedCrop


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """Stretches a window of random area, shape and place to the output's square.

    Szegedy et al. 2015 (arXiv 1409.4842, section 6). Of ten windows drawn, the first that fits into
    the image; if none does, the first one cut to it. The ratio's logarithm is uniform.
    """

    draws: ClassVar[int] = 2 + 2 * _TRIES
    needs_stored: ClassVar[bool] = True
    area: tuple[float, float] = (0.08, 1.0)  # share of the stored image
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width by height
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("random_resized_crop", "area", self.area, 1e-3, 1)
        check_range("random_resized_crop", "aspect", self.aspect, 0.1, 10)
        check_probability("random_resized_crop", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        areas, ratios = u[:, 2 : 2 + _TRIES], u[:, 2 + _TRIES :]
        area = self.area[0] + (self.area[1] - self.area[0]) * areas
        area *= (frame.width * frame.height)[:, None]
        aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** ratios
        extents = np.sqrt(np.stack([area * aspect, area / aspect], axis=2))  # [B, tries, 2]
        stored = np.stack([frame.width, frame.height], axis=1)
        first = (extents <= stored[:, None]).all(axis=2).argmax(axis=1)
        extent = np.minimum(extents[np.arange(len(u)), first], stored)
        return _window((stored - extent) * u[:, :2], extent, frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SameSizeCrop:
    """A window of as many stored pixels as the output has, anywhere in the image: nothing scaled.

    On whole pixels, so that nothing is interpolated either. The "same-sized cropping" of Gessert et
    al. 2020 (arXiv 1910.03910), who won ISIC 2019.
    """

    draws: ClassVar[int] = 2
    needs_stored: ClassVar[bool] = True
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_probability("same_size_crop", self.probability)

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        return _same_size(np.floor(u * (_spare_px(frame) + 1)), frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlacedCrop:
    """The same-sized window at one place: 0 is the left or upper edge, 1 the right or lower."""

    draws: ClassVar[int] = 0
    needs_stored: ClassVar[bool] = True
    x: float
    y: float
    probability: float = 1.0

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        return _same_size(np.rint(np.array([self.x, self.y]) * _spare_px(frame)), frame)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentralCrop:
    """The central square of `share` of the shorter side, scaled to the output."""

    draws: ClassVar[int] = 0
    needs_stored: ClassVar[bool] = True
    share: float
    probability: float = 1.0

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        stored = np.stack([frame.width, frame.height], axis=1)
        extent = np.full(stored.shape, self.share * frame.size_px)
        return _window((stored - extent) / 2, extent, frame)


def _spare_px(frame: Frame) -> Floats:
    """[B, 2] (x, y), stored pixels beside a window of as many as the output has."""
    stored = np.stack([frame.width, frame.height], axis=1)
    return np.asarray(np.rint(stored * frame.stored_per_px[:, None]) - frame.size_px)


def _same_size(start_px: Floats, frame: Frame) -> Floats:
    """[B, 2] (x, y) in stored pixels from the image's corner → [B, 3, 3], nothing scaled."""
    scale = frame.stored_per_px[:, None]
    extent = np.broadcast_to(frame.size_px / scale, start_px.shape)
    return _window(start_px / scale, extent, frame)


def _window(start: Floats, extent: Floats, frame: Frame) -> Floats:
    """[B, 2] (x, y) in output pixels from the stored image's corner, and sizes → [B, 3, 3]."""
    stored = np.stack([frame.width, frame.height], axis=1)
    matrices = np.zeros((len(start), 3, 3))
    matrices[:, [0, 1], [0, 1]] = extent / frame.size_px
    matrices[:, :2, 2] = (frame.size_px - stored) / 2 + start
    matrices[:, 2, 2] = 1
    return matrices
