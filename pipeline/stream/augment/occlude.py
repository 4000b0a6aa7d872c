"""Ops that hide places of an image, so that a model must not lean on one; in place, uint8."""

from __future__ import annotations

import dataclasses
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.stream.augment.ops import Image, check_probability, check_range

Fill = Literal["mean", "black", "noise"]  # the image's mean colour; uniform noise a pixel
_TRIES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoarseDropout:
    """Hides squares or circles, whose centres lie anywhere in the image.

    DeVries and Taylor 2017 (cutout, arXiv 1708.04552), with several holes.
    """

    number: tuple[int, int]  # of holes, both ends included
    size: tuple[float, float]  # of a hole, its side or diameter, as fractions of the image's side
    shape: Literal["square", "circle"] = "square"
    fill: Fill = "mean"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("coarse_dropout", "number", self.number, 1, 1000)
        check_range("coarse_dropout", "size", self.size, 0, 1)
        check_probability("coarse_dropout", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        number = rng.integers(*self.number, endpoint=True)
        side = image.shape[0]
        sizes = np.rint(rng.uniform(*self.size, number) * side).astype(int)
        # From anywhere in the image, minus half a hole: it may be cut by the edge.
        starts = rng.integers(0, side, (number, 2)) - sizes[:, None] // 2
        colour = _mean(image)
        for size, (left, top) in zip(sizes, starts, strict=True):
            hole = image[max(top, 0) : top + size, max(left, 0) : left + size]
            if not hole.size:
                continue
            is_hidden = np.ones(hole.shape[:2], np.bool_)
            if self.shape == "circle":
                # Distances from the centre, in half pixels so that all are whole numbers.
                across = 2 * np.arange(size) + 1 - size
                y, x = across[max(-top, 0) :][: len(hole)], across[max(-left, 0) :]
                is_hidden = y[:, None] ** 2 + x[: hole.shape[1]] ** 2 <= size**2
            _hide(hole, is_hidden, self.fill, colour, rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """Hides one rectangle: Zhong et al. 2017 (arXiv 1708.04896, algorithm 1).

    Of ten drawn, the first that fits into the image; if none does, the image stays as it is. The
    logarithm of its aspect ratio is uniform, so that it is as often tall as wide.
    """

    area: tuple[float, float] = (0.02, 0.4)  # share of the image
    aspect: tuple[float, float] = (0.3, 1 / 0.3)  # width by height
    fill: Fill = "noise"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("random_erasing", "area", self.area, 0, 1)
        check_range("random_erasing", "aspect", self.aspect, 0.01, 100)
        check_probability("random_erasing", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        side = image.shape[0]
        for _ in range(_TRIES):
            area = rng.uniform(*self.area) * side**2
            aspect = np.exp(rng.uniform(*np.log(self.aspect)))
            width, height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if width <= side and height <= side:
                left, top = rng.integers(0, [side - width, side - height], endpoint=True)
                hole = image[top : top + height, left : left + width]
                is_hidden = np.ones(hole.shape[:2], np.bool_)
                _hide(hole, is_hidden, self.fill, _mean(image), rng)
                return


def _mean(image: Image) -> npt.NDArray[np.uint8]:
    return np.rint(cv2.mean(image)[:3]).astype(np.uint8)


def _hide(
    hole: Image,
    is_hidden: npt.NDArray[np.bool_],
    fill: Fill,
    mean: npt.NDArray[np.uint8],
    rng: np.random.Generator,
) -> None:
    """uint8 [h, w, 3] in place, where bool [h, w] is true."""
    if fill == "noise":
        pixels = np.frombuffer(rng.bytes(hole.size), np.uint8).reshape(hole.shape)
        np.copyto(hole, pixels, where=is_hidden[:, :, None])
    else:
        hole[is_hidden] = 0 if fill == "black" else mean
