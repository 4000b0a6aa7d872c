"""The table of ops, and a recipe's `[[augment]]` list made into them.

A new op is a class beside its kin, a line here, a test and a line in the changelog. Called by
`trainer.task` before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import SettingsError
from pipeline.settings import from_tables, nearest
from pipeline.stream.augment.colour import Brightness, Contrast, Hue, Saturation
from pipeline.stream.augment.crops import RandomResizedCrop, SameSizeCrop
from pipeline.stream.augment.dermoscopy import Hair, Vignette
from pipeline.stream.augment.geometry import (
    FlipLeftRight,
    FlipUpDown,
    Rotation,
    Shear,
    Shift,
    Transpose,
    Zoom,
)
from pipeline.stream.augment.mix import CutMix, MixUp
from pipeline.stream.augment.occlude import CoarseDropout, RandomErasing
from pipeline.stream.augment.ops import GeometryOp, Op
from pipeline.stream.augment.pixel import Blur, Gamma, Noise, Sharpen

Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of `OPS`: the class, and settings from weak to strong for the gallery's pictures."""

    op: type[Op]
    strengths: tuple[Settings, ...] = ({},)


def _each(name: str, *values: Any, **others: Any) -> tuple[Settings, ...]:
    return tuple({name: value, **others} for value in values)


# Geometry, colour, pixel, batch: in the order in which the gallery shows them.
OPS: dict[str, Entry] = {
    "flip_left_right": Entry(FlipLeftRight),
    "flip_up_down": Entry(FlipUpDown),
    "transpose": Entry(Transpose),
    "rotation": Entry(Rotation, _each("max_angle_deg", 10.0, 45.0, 180.0)),
    "shear": Entry(Shear, _each("max_angle_deg", 2.0, 10.0, 30.0)),
    "zoom": Entry(Zoom, _each("max_fraction", 0.12, 0.3, 1.0)),
    "shift": Entry(Shift, _each("max_px", 8.0, 24.0, 64.0)),
    "random_resized_crop": Entry(
        RandomResizedCrop, _each("area", (0.7, 1.0), (0.3, 1.0), (0.08, 1.0))
    ),
    "same_size_crop": Entry(SameSizeCrop),
    "brightness": Entry(Brightness, _each("max_delta", 0.05, 0.1, 0.3)),
    "contrast": Entry(Contrast, _each("factor", (0.9, 1.1), (0.8, 1.2), (0.5, 1.5))),
    "saturation": Entry(Saturation, _each("factor", (0.9, 1.1), (0.7, 1.3), (0.0, 2.0))),
    "hue": Entry(Hue, _each("max_angle_deg", 5.0, 15.0, 45.0)),
    "gamma": Entry(Gamma, _each("gamma", (0.9, 1.1), (0.8, 1.25), (0.5, 2.0))),
    "blur": Entry(Blur, _each("sigma_px", (0.3, 0.7), (0.7, 1.5), (1.5, 3.0))),
    "noise": Entry(Noise, _each("sigma", (0.01, 0.02), (0.02, 0.05), (0.05, 0.1))),
    "sharpen": Entry(Sharpen, _each("amount", (0.2, 0.5), (0.5, 1.0), (1.0, 3.0))),
    "coarse_dropout": Entry(
        CoarseDropout,
        (
            {"number": (1, 4), "size": (0.05, 0.1)},
            {"number": (4, 8), "size": (0.1, 0.2), "shape": "circle"},
            {"number": (8, 16), "size": (0.1, 0.25), "fill": "noise"},
        ),
    ),
    "random_erasing": Entry(RandomErasing, _each("area", (0.02, 0.1), (0.1, 0.2), (0.2, 0.4))),
    "hair": Entry(Hair, _each("number", (2, 5), (8, 15), (20, 40))),
    "vignette": Entry(Vignette, _each("radius", (1.1, 1.3), (0.95, 1.1), (0.75, 0.95))),
    "mixup": Entry(MixUp, _each("alpha", 0.2, 0.4, 1.0)),
    "cutmix": Entry(CutMix, _each("alpha", 0.2, 1.0, 4.0)),
}


def build_ops(tables: Sequence[Mapping[str, Any]]) -> tuple[Op, ...]:
    """The ops of `[[augment]]` tables such as `{op = "brightness", max_delta = 0.1}`, in order.

    SettingsError for an unknown op or setting, naming the nearest, for one out of range, and for a
    crop that is not the first of the geometry.
    """
    ops: list[Op] = []
    for place, table in enumerate(tables):
        where = f"augment.{place}"
        if not isinstance(table, Mapping):
            raise SettingsError(f'{where}: must be a table such as {{op = "hue"}}, got {table!r}')
        name = table.get("op")
        if name not in OPS:
            near = nearest(str(name), OPS)
            raise SettingsError(f"{where}: op must be a known one, got {name!r}; {near}")
        settings = {key: value for key, value in table.items() if key != "op"}
        op = from_tables(OPS[name].op, settings, f"{where} ({name})")
        is_first = not any(isinstance(earlier, GeometryOp) for earlier in ops)
        if isinstance(op, GeometryOp) and op.needs_stored and not is_first:
            raise SettingsError(
                f"{where} ({name}): a crop must be the first op that moves pixels, for it takes "
                "its window from the stored image, got another before it; move it up"
            )
        ops.append(op)
    return tuple(ops)
