"""Ops that change an image's tones and its sharpness; each is in place, uint8 [S, S, 3]."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import cv2
import numpy as np

from pipeline.stream.augment.ops import Image, check_probability, check_range

# 256 numbers whose mean is 0 and whose variance is 1: the middles of a normal distribution's 256
# equally likely intervals. The largest is 2.9.
_NORMAL = np.array([NormalDist().inv_cdf((place + 0.5) / 256) for place in range(256)])
_NORMAL /= _NORMAL.std()
_BORDER = cv2.BORDER_REFLECT  # as the warp's: an edge darkens nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gamma:
    """v becomes v**gamma, v in [0, 1]; gamma's logarithm is uniform. Below 1 is brighter."""

    gamma: tuple[float, float]
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("gamma", "gamma", self.gamma, 0.1, 10)
        check_probability("gamma", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        gamma = np.exp(rng.uniform(*np.log(self.gamma)))
        tones = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
        cv2.LUT(image, tones, dst=image)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blur:
    """Averages neighbours with Gaussian weights; sigma is uniform in `sigma_px`."""

    sigma_px: tuple[float, float]
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("blur", "sigma_px", self.sigma_px, 0.1, 20)
        check_probability("blur", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        sigma_px = rng.uniform(*self.sigma_px)
        cv2.GaussianBlur(image, (0, 0), sigma_px, dst=image, borderType=_BORDER)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Adds normal noise, drawn for each pixel and each channel; sigma is uniform in `sigma`.

    Each number is one random byte's, looked up among 256 and rounded to whole levels: 0.2 ms an
    image of 256 px (benchmarks/augment_ops.py), where numpy's normal numbers alone take 1.5.
    """

    sigma: tuple[float, float]  # as fractions of full scale
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("noise", "sigma", self.sigma, 0, 0.5)
        check_probability("noise", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        levels = np.rint(_NORMAL * (255 * rng.uniform(*self.sigma))).astype(np.int16)
        draws = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
        cv2.add(image, cv2.LUT(draws, levels), dst=image, dtype=cv2.CV_8U)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sharpen:
    """Unsharp mask: adds `amount` times what a blur of `sigma_px` takes away."""

    amount: tuple[float, float]
    sigma_px: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("sharpen", "amount", self.amount, 0, 10)
        if not 0.1 <= self.sigma_px <= 20:
            raise ValueError(f"sharpen: sigma_px must be in [0.1, 20], got {self.sigma_px}")
        check_probability("sharpen", self.probability)

    def change(self, image: Image, rng: np.random.Generator) -> None:
        amount = rng.uniform(*self.amount)
        blurred = cv2.GaussianBlur(image, (0, 0), self.sigma_px, borderType=_BORDER)
        cv2.addWeighted(image, 1 + amount, blurred, -amount, 0, dst=image)
