"""What one example holds: the feature list that a manifest stores, and codec and reader obey.

The list is the only place where a name, a type and a meaning meet. `pipeline.records.example`
writes by it, `pipeline.stream.parse` reads by it; neither knows a column of any competition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

Dtype = Literal["int64", "float32", "string", "bytes"]
Role = Literal[
    "id", "group", "row", "part", "fold", "image", "values", "target",
    "weight", "category", "number", "box", "box_label", "source", "extra",
]  # fmt: skip

# Written by the pipeline itself; a CSV column of one of these names is stored as `csv_NAME`.
RESERVED_NAMES = (
    "row", "part", "fold", "image", "values", "target", "width", "height", "sha256",
)  # fmt: skip


# Columns of plan.parquet and rows.parquet that are there for any dataset.
TABLE_COLUMNS = (
    "row", "id", "group", "part", "fold", "target", "shard", "position", "path",
    "values_offset", "values_bytes",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of an example.

    `string` is UTF-8 text, `bytes` anything else. `shape` is `()` for a scalar; its first length
    may be `None` (free: a sequence of images, the boxes of a picture), the others are fixed.

    `key` and `codes` describe records that others wrote (`pipeline.records.adopt`); ours have none.
    """

    name: str
    dtype: Dtype
    shape: tuple[int | None, ...] = ()
    role: Role = "extra"
    key: str | None = None  # its name in the record, where that is another
    codes: tuple[tuple[int, str], ...] | None = None  # the text that each int64 stands for

    def __post_init__(self) -> None:
        where = f"feature {self.name!r}"
        if not self.name:
            raise ValueError("feature: name must not be empty")
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"{where}: dtype must be one of {get_args(Dtype)}, got {self.dtype!r}")
        if self.role not in get_args(Role):
            raise ValueError(f"{where}: role must be one of {get_args(Role)}, got {self.role!r}")
        if any(length is None for length in self.shape[1:]):
            raise ValueError(f"{where}: only the first length may be free, got {self.shape}")
        if any(length is not None and length < 1 for length in self.shape):
            raise ValueError(f"{where}: lengths must be 1 or more, got {self.shape}")
        if self.codes is not None and (self.dtype != "int64" or self.shape):
            raise ValueError(
                f"{where}: codes must be of one int64, got {self.dtype} of shape {self.shape}"
            )

    @property
    def record_key(self) -> str:
        """Its name in the record."""
        return self.name if self.key is None else self.key

    @property
    def is_free(self) -> bool:
        """True when the number of values differs from example to example."""
        return bool(self.shape) and self.shape[0] is None

    def to_json(self) -> dict[str, Any]:
        """As the manifest stores it; a free length is `null`."""
        table = {**dataclasses.asdict(self), "shape": list(self.shape)}
        return {name: value for name, value in table.items() if value is not None}


def features_to_json(features: Iterable[Feature]) -> list[dict[str, Any]]:
    """The list in order of name, which is also the order on disk."""
    return [feature.to_json() for feature in sorted(features, key=lambda f: f.name)]


def features_from_json(items: Sequence[Mapping[str, Any]], where: str) -> tuple[Feature, ...]:
    """Inverse of `features_to_json`; `where` names the file in errors."""
    features = []
    for item in items:
        try:
            table = {**item, "shape": tuple(item["shape"])}
            if "codes" in item:
                table["codes"] = tuple((int(code), str(text)) for code, text in item["codes"])
            features.append(Feature(**table))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{where}: not a feature: {dict(item)}: {error}") from error
    names = [feature.name for feature in features]
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: feature names must differ, got {names}")
    return tuple(sorted(features, key=lambda f: f.name))


def with_role(features: Iterable[Feature], role: Role) -> tuple[Feature, ...]:
    """The features of one role, in order of name."""
    return tuple(sorted((f for f in features if f.role == role), key=lambda f: f.name))


def the_feature(features: Iterable[Feature], role: Role) -> Feature:
    """The one feature of a role that occurs once, such as `row` or `image`."""
    found = with_role(features, role)
    if len(found) != 1:
        names = [feature.name for feature in found]
        raise ValueError(f"features: there must be exactly one of role {role!r}, got {names}")
    return found[0]


def table_column(feature: str) -> str:
    """The column of a feature in plan.parquet and rows.parquet."""
    return f"csv_{feature}" if feature in TABLE_COLUMNS else feature


def stored_name(column: str) -> str:
    """The feature name of a CSV column."""
    return f"csv_{column}" if column in RESERVED_NAMES else column
