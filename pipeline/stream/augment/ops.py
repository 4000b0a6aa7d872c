"""What an op is. Four kinds, all frozen dataclasses without state; a recipe lists them in order.

- geometry gives a matrix an example; all are multiplied and the pixels are moved once (`warp`);
- colour gives a linear map of colours an example; neighbours are multiplied and applied once;
- pixel changes one image in place: all that is no matrix;
- batch mixes each example with another of its batch; on the device, within the training step.
What an op draws comes to it as uniform numbers, so it can be tested at chosen ones and needs no
TensorFlow. Geometry runs first, wherever it stands in the list: the other kinds see what it made.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]  # [H, W, 3]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Where geometry works: the square output, and the stored images around it.

    Places are (x, y) in output pixels, pixel i covering [i, i + 1). A stored image is centred on
    the square and scaled so that its shorter side fills it.
    """

    size_px: int
    width: Floats  # [B], of the stored image in output pixels: size_px or more
    height: Floats  # [B]
    stored_per_px: Floats  # [B], stored pixels an output pixel


@runtime_checkable
class GeometryOp(Protocol):
    """Moves pixels."""

    draws: ClassVar[int]
    needs_stored: ClassVar[bool]  # uses the stored image beyond, or finer than, the output square

    @property
    def probability(self) -> float: ...

    def matrices(self, u: Floats, frame: Frame) -> Floats:
        """[B, draws] in [0, 1) → [B, 3, 3], from a place in the output to its place before."""


@runtime_checkable
class ColourOp(Protocol):
    """Maps colours linearly, the same way in every pixel."""

    draws: ClassVar[int]

    @property
    def probability(self) -> float: ...

    def colours(self, u: Floats, mean: Floats) -> Floats:
        """[B, draws] in [0, 1), [B, 3] mean colours in [0, 1] → [B, 3, 4]: a matrix, an offset.

        The mean is the image's as it reaches this op. Offsets are fractions of full scale.
        """


@runtime_checkable
class PixelOp(Protocol):
    """Changes an image in a way that no matrix says."""

    @property
    def probability(self) -> float: ...

    def change(self, image: Image, rng: np.random.Generator) -> None:
        """uint8 [S, S, 3], in place; drawing from `rng` alone."""


@runtime_checkable
class BatchOp(Protocol):
    """Mixes each example with a partner."""

    draws: ClassVar[int]

    @property
    def probability(self) -> float: ...

    def shares(self, u: Any, size_px: int) -> Any:
        """float32 tensors: [B, draws] in [0, 1) → [B, S, S, 1] or [B, 1, 1, 1] in [0, 1].

        How much of a pixel is the example's own; the rest is its partner's.
        """


Op = GeometryOp | ColourOp | PixelOp | BatchOp


def check_probability(op: str, probability: float) -> None:
    """Raises ValueError unless it is one; called by each op's `__post_init__`."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{op}: probability must be in [0, 1], got {probability}")


def check_range(
    op: str, name: str, bounds: tuple[float, float], least: float, most: float = math.inf
) -> None:
    """Raises ValueError unless `bounds` are two numbers in order within [least, most]."""
    if not (least <= bounds[0] <= bounds[1] <= most and math.isfinite(bounds[1])):
        rule = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{op}: {name} must be two numbers {rule}, in order, got {list(bounds)}")
