"""Augmentation: small seeded ops in explicit tables, built from `[[augment]]` and run in tf.data.

A new op is one class, one line in its table, one test. Three kinds, all stateless:
- geometry gives a float32 [3, 3] matrix; the chain is multiplied and the pixels are moved once.
  Today's chain turns and mirrors, which is exact: a matrix that is none of the eight symmetries of
  the square (a turn by 30°, a zoom) would need resampling, and `check_geometry` refuses it;
- pixel maps image → image;
- batch (mixup and its kin) maps a batch → a batch; there is none yet.
Geometry runs first, on uint8 and before colour: a quarter of the bytes to move.

The trainer calls `build_ops` before TensorFlow's import, which is therefore made where it is first
needed, then `check_geometry`; `pipeline.stream.batches` calls `augment`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from pipeline.errors import SettingsError
from pipeline.settings import from_tables, nearest

if TYPE_CHECKING:
    import tensorflow as tf


@runtime_checkable
class GeometryOp(Protocol):
    """Moves pixels. Matrices act on (x, y, 1) in pixels, pixel i covering [i, i + 1).

    A matrix turns or mirrors the square onto itself, for no pixel is resampled (`turn_image`).
    """

    @property
    def probability(self) -> float: ...

    def matrix(self, seed: tf.Tensor, size_px: int) -> tf.Tensor:
        """int64 [2] → float32 [3, 3], from a place in the output to its place in the input."""


@runtime_checkable
class PixelOp(Protocol):
    """Changes pixels where they are."""

    @property
    def probability(self) -> float: ...

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """float32 [H, W, 3] in [0, 1], int64 [2] → the same shape and range."""


Op = GeometryOp | PixelOp


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipLeftRight:
    """Mirrors the image: x becomes size - x."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("flip_left_right", self.probability)

    def matrix(self, seed: tf.Tensor, size_px: int) -> tf.Tensor:
        import tensorflow as tf

        return tf.constant([[-1, 0, size_px], [0, 1, 0], [0, 0, 1]], tf.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipUpDown:
    """Turns the image upside down: y becomes size - y."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("flip_up_down", self.probability)

    def matrix(self, seed: tf.Tensor, size_px: int) -> tf.Tensor:
        import tensorflow as tf

        return tf.constant([[1, 0, 0], [0, -1, size_px], [0, 0, 1]], tf.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transpose:
    """Swaps x and y; with both flips it gives the eight symmetries of the square."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("transpose", self.probability)

    def matrix(self, seed: tf.Tensor, size_px: int) -> tf.Tensor:
        import tensorflow as tf

        return tf.constant([[0, 1, 0], [1, 0, 0], [0, 0, 1]], tf.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness:
    """Adds one offset an image, drawn from [-max_delta, max_delta); clipped to [0, 1]."""

    max_delta: float  # as a fraction of full scale
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_delta < 1:
            raise ValueError(f"brightness: max_delta must be in [0, 1), got {self.max_delta}")
        _check_probability("brightness", self.probability)

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        delta = tf.random.stateless_uniform([], seed, -self.max_delta, self.max_delta)
        return tf.clip_by_value(image + delta, 0.0, 1.0)


GEOMETRY_OPS: dict[str, type[GeometryOp]] = {
    "flip_left_right": FlipLeftRight,
    "flip_up_down": FlipUpDown,
    "transpose": Transpose,
}
PIXEL_OPS: dict[str, type[PixelOp]] = {
    "brightness": Brightness,
}


def build_ops(tables: Sequence[Mapping[str, Any]]) -> tuple[Op, ...]:
    """The ops of `[[augment]]` tables such as `{op = "brightness", max_delta = 0.1}`, in order.

    SettingsError for an unknown op or setting, naming the nearest, and for one out of range.
    """
    known: dict[str, type[Op]] = {**GEOMETRY_OPS, **PIXEL_OPS}
    ops = []
    for place, table in enumerate(tables):
        where, name = f"augment[{place}]", table.get("op")
        if name not in known:
            near = nearest(str(name), known)
            raise SettingsError(f"{where}: op must be a known one, got {name!r}; {near}")
        settings = {key: value for key, value in table.items() if key != "op"}
        ops.append(from_tables(known[name], settings, f"{where} ({name})"))
    return tuple(ops)


def check_geometry(ops: Sequence[Op]) -> None:
    """Raises SettingsError for a geometry op whose matrix is no symmetry of the square.

    Each op's matrix is taken at a few seeds: one that draws its angle does not hit a quarter turn
    each time.
    """
    import tensorflow as tf

    corners = np.array([[0, 0, 1], [8, 0, 1], [0, 8, 1], [8, 8, 1]])
    for (place, op), seed in itertools.product(enumerate(ops), range(4)):
        if not isinstance(op, GeometryOp):
            continue
        matrix = np.asarray(op.matrix(tf.constant([seed, 0], tf.int64), 8))
        is_on = np.isclose((corners @ matrix.T)[:, None], corners, atol=1e-3).all(axis=2)
        if (is_on.sum(axis=0) != 1).any():
            raise SettingsError(
                f"augment[{place}]: {type(op).__name__} must turn or mirror the square onto "
                f"itself, got the matrix {matrix.tolist()}; give turn_image a resampling first"
            )


def augment(
    image: tf.Tensor, ops: Sequence[Op], op_seeds: Sequence[int], place: tf.Tensor
) -> tf.Tensor:
    """uint8 [S, S, 3] → float32 [S, S, 3] in [0, 1], after each op with its own seed.

    Op i draws from the stateless seed (op_seeds[i], place): what it draws depends neither on the
    other ops nor on what was drawn before.
    """
    import tensorflow as tf

    seeded = [
        (op, tf.stack([tf.constant(op_seed, tf.int64), place]))
        for op, op_seed in zip(ops, op_seeds, strict=True)
    ]
    matrix = None
    for op, seed in seeded:
        if isinstance(op, GeometryOp):
            step = _with_probability(op, seed, op.matrix(seed, image.shape[0]), tf.eye(3))
            matrix = step if matrix is None else tf.linalg.matmul(matrix, step)
    if matrix is not None:
        image = turn_image(image, matrix)
    image = to_float(image)
    for op, seed in seeded:
        if isinstance(op, PixelOp):
            image = _with_probability(op, seed, op(image, seed), image)
    return image


def turn_image(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Any [S, S, C] → the same pixels in the place that a float32 [3, 3] signed permutation says.

    Flips and the transpose only: no pixel is resampled, and which of the eight it is may be known
    at run time only. The transpose comes first, the flips are those of the output's axes.
    """
    import tensorflow as tf

    is_transposed = tf.abs(matrix[0, 0]) < 0.5  # 0, but for the rounding of a cosine
    is_mirrored = tf.reduce_sum(matrix[:2, :2], axis=0) < 0  # along x, along y
    turned = tf.transpose(image, tf.where(is_transposed, [1, 0, 2], [0, 1, 2]))
    turned = tf.reverse(turned, tf.boolean_mask([1, 0], is_mirrored))
    return tf.ensure_shape(turned, image.shape)


def to_float(image: tf.Tensor) -> tf.Tensor:
    """uint8 of any shape → float32 in [0, 1]."""
    import tensorflow as tf

    return tf.cast(image, tf.float32) * (1 / 255)


def _with_probability(op: Op, seed: tf.Tensor, done: tf.Tensor, undone: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    if op.probability == 1:
        return done
    # The complement of the place is the seed of no other draw: what happens and how much are
    # independent.
    chance = tf.random.stateless_uniform([], tf.stack([seed[0], -1 - seed[1]]))
    return tf.where(chance < op.probability, done, undone)


def _check_probability(op: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"{op}: probability must be in [0, 1], got {probability}")
