"""Test-time views: which pictures a model is asked about, where training would draw one.

    1               the plain image
    N               N random ones, by the recipe's own ops
    flips           the eight symmetries of the square
    cropsN          9, 16, 25 or 36 windows of the model's size from larger records, row by row
    scales4flips4   the central square of 1, 7/8, 3/4 and 5/8 of the side, each in four flips

`trainer.predict` builds them without TensorFlow; `pipeline.stream.render` draws them in the host's
threads. What view v of an example draws follows from (run seed, v, op, row) alone.

Ordered crops, and scales with flips, are those of Gessert et al. 2020 (arXiv 1910.03910), who won
ISIC 2019; their scales are of the originals, not of a record.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

from pipeline.errors import SettingsError
from pipeline.settings import nearest
from pipeline.stream.augment.chain import Border, Chain
from pipeline.stream.augment.crops import CentralCrop, PlacedCrop
from pipeline.stream.augment.geometry import FlipLeftRight, FlipUpDown, Transpose
from pipeline.stream.augment.ops import Op
from pipeline.stream.seeds import view_seed

NAMED = ("flips", "crops9", "crops16", "crops25", "crops36", "scales4flips4")
_SCALES = (1.0, 0.875, 0.75, 0.625)
_LEFT_RIGHT, _UP_DOWN = FlipLeftRight(probability=1), FlipUpDown(probability=1)
_FLIPS: tuple[tuple[Op, ...], ...] = ((), (_LEFT_RIGHT,), (_UP_DOWN,), (_LEFT_RIGHT, _UP_DOWN))


@dataclasses.dataclass(frozen=True)
class View:
    """One picture of each example: what makes it, and what its ops draw from beside the row."""

    chain: Chain
    op_seeds: tuple[int, ...]


def check_views(name: str) -> None:
    """Raises SettingsError unless `name` is a number of 1 or more, or one of `NAMED`."""
    if name in NAMED or re.fullmatch("[1-9][0-9]*", name):
        return
    raise SettingsError(
        f"--views must be a number of 1 or more, or one of {', '.join(NAMED)}, got {name!r}; "
        f"{nearest(name, NAMED)}"
    )


def build_views(
    name: str, ops: Sequence[Op], *, size_px: int, border: Border, seed: int
) -> tuple[View, ...]:
    """The views of a name that `check_views` passes, of the model's size.

    `ops`, `border` and `seed` are the recipe's. SettingsError where it has no op that could draw.
    """
    check_views(name)
    if name.isdigit() and name != "1":
        chain = Chain(ops, size_px=size_px, border=border)
        if chain.is_empty:
            raise SettingsError(
                f"--views: the recipe must have [[augment]] ops to draw {name} views by, got none "
                f"that change an image; give 1, or one of {', '.join(NAMED)}"
            )
        return tuple(
            View(chain, tuple(view_seed(seed, view, op) for op in range(len(ops))))
            for view in range(int(name))
        )
    return tuple(
        View(Chain(chosen, size_px=size_px), (0,) * len(chosen)) for chosen in _fixed(name)
    )


def check_record_size(
    name: str, *, size_px: int, stored_px: int, has_more: bool, where: str
) -> None:
    """Raises SettingsError where records of `stored_px` cannot give the views of a model's size.

    `has_more` says that one side of a stored image is longer.
    """
    if size_px > stored_px:
        raise SettingsError(
            f"{where}: records must be of {size_px} px or more, the model's size, got {stored_px}; "
            f"make records of that size (make_records --sizes {size_px})"
        )
    if name.startswith("crops") and size_px == stored_px and not has_more:
        raise SettingsError(
            f"{where}: --views {name} must have records larger than the model's {size_px} px, got "
            f"{stored_px}, of which every crop is the whole; make larger ones "
            f"(make_records --sizes {size_px * 5 // 4})"
        )


def _fixed(name: str) -> list[tuple[Op, ...]]:
    """The ops of each view that draws nothing."""
    if name == "1":
        return [()]
    if name == "flips":
        turned: list[tuple[Op, ...]] = [(), (Transpose(probability=1),)]
        return [(*first, *flips) for first, flips in itertools.product(turned, _FLIPS)]
    if name == "scales4flips4":
        scales = [CentralCrop(share=share) for share in _SCALES]
        return [(scale, *flips) for scale, flips in itertools.product(scales, _FLIPS)]
    steps = math.isqrt(int(name.removeprefix("crops")))
    places = [place / (steps - 1) for place in range(steps)]
    return [(PlacedCrop(x=x, y=y),) for y, x in itertools.product(places, places)]
