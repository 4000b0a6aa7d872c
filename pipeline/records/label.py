"""What a target means."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

LabelKind = Literal["binary", "multiclass", "multilabel", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelInfo:
    """The ordered classes behind `target`, and which of them are the scored ones.

    `binary` and `multiclass` store the class index (-1: unknown); `multilabel` stores one value
    a class in [0, 1] (-1: unknown). `positive` never changes what is stored.
    """

    kind: LabelKind
    classes: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()


def label_from_json(tables: Mapping[str, Any]) -> LabelInfo:
    """A `LabelInfo` as plan and manifest store it."""
    return LabelInfo(
        kind=tables["kind"],
        classes=tuple(tables["classes"]),
        positive=tuple(tables["positive"]),
    )
