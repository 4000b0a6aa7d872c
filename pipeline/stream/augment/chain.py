"""A recipe's ops applied to images: one warp, then colours and pixels in the order of the list.

Called by `pipeline.stream.render` with a few images at a time, in its threads. Images stay uint8
from one op to the next: colour ops that stand together are multiplied, rounded and clipped once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.stream.augment.draws import example_seeds, uniforms
from pipeline.stream.augment.ops import ColourOp, Floats, Frame, GeometryOp, Image, Op, PixelOp
from pipeline.stream.augment.warp import cover, move, to_stored

Border = Literal["reflect", "crop"]
Images = npt.NDArray[np.uint8]  # [B, S, S, 3]
_UNTURNED = np.eye(3)
_UNCOLOURED = np.eye(3, 4)


class Chain:
    """The ops of a recipe, ready to be applied; those of batches are passed over.

    Op i draws from (op_seeds[i], the example's key): what it draws depends neither on the other ops
    nor on what else is in the batch. `border` says what is seen beyond the image's edge: its
    reflection, or nothing, for the picture is zoomed until it lies within.
    """

    def __init__(self, ops: Sequence[Op], *, size_px: int, border: Border = "reflect") -> None:
        self.size_px, self.border = size_px, border
        # Sorted once, for a Protocol's isinstance takes microseconds: an op and its number each.
        numbered = list(enumerate(ops))
        self._geometry = [(op, i) for i, op in numbered if isinstance(op, GeometryOp)]
        self._runs: list[list[tuple[ColourOp, int]] | tuple[PixelOp, int]] = []
        rest = [(i, op) for i, op in numbered if isinstance(op, ColourOp | PixelOp)]
        for is_colour, run in itertools.groupby(rest, lambda item: isinstance(item[1], ColourOp)):
            if is_colour:
                self._runs.append([(op, i) for i, op in run if isinstance(op, ColourOp)])
            else:
                self._runs.extend((op, i) for i, op in run if isinstance(op, PixelOp))

    @property
    def is_empty(self) -> bool:
        """Without ops; pictures are then as they came."""
        return not self._geometry and not self._runs

    @property
    def needs_stored(self) -> bool:
        """Whether an op looks at the stored image beyond or finer than the output square."""
        return any(op.needs_stored for op, _ in self._geometry)

    def apply(
        self,
        images: Sequence[Image],
        op_seeds: Sequence[int],
        keys: npt.NDArray[np.int64],
        out: Images,
    ) -> None:
        """uint8 [H, W, 3] images of any sizes, int64 [B] keys → uint8 [B, S, S, 3] in `out`."""
        move(images, self._matrices(images, op_seeds, keys), out)
        for run in self._runs:
            if isinstance(run, list):
                _apply_colours(run, op_seeds, keys, out)
            else:
                op, number = run
                _apply_pixels(op, op_seeds[number], keys, out)

    def _matrices(
        self, images: Sequence[Image], op_seeds: Sequence[int], keys: npt.NDArray[np.int64]
    ) -> Floats:
        """[B, 2, 3], from a place in the output to its place in the stored image."""
        sizes = np.array([image.shape[:2] for image in images], np.float64)
        scale = sizes.min(axis=1) / self.size_px
        frame = Frame(
            size_px=self.size_px,
            width=sizes[:, 1] / scale,
            height=sizes[:, 0] / scale,
            stored_per_px=scale,
        )
        matrices = np.broadcast_to(_UNTURNED, (len(images), 3, 3))
        drawn = _draw(self._geometry, op_seeds, keys)
        for (op, _), (happens, u) in zip(self._geometry, drawn, strict=True):
            step = op.matrices(u, frame)
            matrices = matrices @ np.where(happens[:, None, None], step, _UNTURNED)
        if self.border == "crop":
            matrices = cover(matrices, frame)
        return to_stored(matrices, frame)


def _apply_colours(
    run: Sequence[tuple[ColourOp, int]],
    op_seeds: Sequence[int],
    keys: npt.NDArray[np.int64],
    out: Images,
) -> None:
    mean = np.array([cv2.mean(image)[:3] for image in out])[:, :, None] / 255  # [B, 3, 1]
    colours = np.broadcast_to(_UNCOLOURED, (len(out), 3, 4))
    for (op, _), (happens, u) in zip(run, _draw(run, op_seeds, keys), strict=True):
        step = np.where(happens[:, None, None], op.colours(u, mean[:, :, 0]), _UNCOLOURED)
        linear, offset = step[:, :, :3], step[:, :, 3:]
        mean = linear @ mean + offset
        colours = linear @ colours
        colours[:, :, 3:] += offset
    colours = colours * [1, 1, 1, 255]  # offsets of full scale → of uint8
    is_changed = (colours != _UNCOLOURED).any(axis=(1, 2)).tolist()
    for image, matrix, changes in zip(out, colours, is_changed, strict=True):
        if changes:
            cv2.transform(image, matrix, dst=image)


def _apply_pixels(op: PixelOp, op_seed: int, keys: npt.NDArray[np.int64], out: Images) -> None:
    seeds = example_seeds(op_seed, keys)
    for place in np.flatnonzero(uniforms(seeds, 1)[:, 0] < op.probability):
        op.change(out[place], np.random.Generator(np.random.SFC64(int(seeds[place]))))


def _draw(
    ops: Sequence[tuple[GeometryOp | ColourOp, int]],
    op_seeds: Sequence[int],
    keys: npt.NDArray[np.int64],
) -> list[tuple[npt.NDArray[np.bool_], Floats]]:
    """Of each op bool [B], whether it happens, and its uniforms [B, draws]; drawn all at once."""
    if not ops:
        return []
    most = max(op.draws for op, _ in ops)
    u = uniforms(example_seeds([op_seeds[number] for _, number in ops], keys), 1 + most)
    return [
        (of_op[:, 0] < op.probability, of_op[:, 1 : 1 + op.draws])
        for (op, _), of_op in zip(ops, u, strict=True)
    ]
