"""The dataset spec: what a table's columns mean, and how its rows are cut into parts.

Written as TOML (`datasets/*.toml`) or as flags of `beam_jobs.make_records`; both fill
`DatasetSpec`. It says nothing of pixels: the images' root, sizes and quality belong to a rendering
(`pipeline.images.render.RenderSpec`), and many renderings share one spec.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.records.label import LabelKind
from pipeline.settings import from_tables, load_toml, merge, to_tables

DEFAULT_MISSING = ("", "NA", "NaN", "nan")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The CSV and the columns that say who an example is."""

    csv: str
    id: str
    group: str | None = None  # a patient, a lesion: never split across parts
    keep: Literal["all"] | tuple[str, ...] = ()  # further columns that go into the records
    missing: tuple[str, ...] = DEFAULT_MISSING  # what counts as missing, in any column but the id


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesSpec:
    """Where an example's image is: a template over the CSV's columns, under the images' root."""

    path: str | None = None  # None: the id with `.jpg`

    def __post_init__(self) -> None:
        if self.path is not None and not template_columns(self.path):
            raise ValueError(
                "images.path must name a column such as '{image_name}.jpg', "
                f"got {self.path!r}, which is the same file for every row"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """The label. `column` is a list for `multilabel`: one 0/1 (or soft) column a class."""

    column: str | tuple[str, ...] | None = None
    kind: LabelKind | None = None  # None: read from the column, see `pipeline.dataset.labels`
    classes: tuple[str, ...] | None = None  # None: the values that occur, in order
    positive: tuple[str, ...] = ()  # the scored classes; for a binary text column: what becomes 1

    def __post_init__(self) -> None:
        if self.column is None and self.kind not in (None, "none"):
            raise ValueError(f"label.column must be given for label.kind {self.kind!r}")
        if self.column is not None and self.kind == "none":
            raise ValueError(f"label.kind 'none' must not have a column, got {self.column!r}")
        if isinstance(self.column, tuple) and self.kind not in (None, "multilabel"):
            raise ValueError(f"label.column must be one column for {self.kind}, got {self.column}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataSpec:
    """The columns that a model may be given beside the image."""

    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldsSpec:
    """How rows are cut into parts."""

    count: int = 5
    seed: int = 42
    holdout: float | None = None  # the share of the rows that goes into the part `holdout`
    column: str | None = None  # a column that names each row's fold or part; none is computed then
    drop: str | None = None  # FILE[:COLUMN], a CSV of ids to leave out

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"folds.count must be 2 or more, got {self.count}")
        if self.holdout is not None and not 0 < self.holdout < 1:
            raise ValueError(f"folds.holdout must be in (0, 1), got {self.holdout}")
        if self.holdout is not None and self.column is not None:
            raise ValueError("folds.holdout must not be given with folds.column, which names parts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """All of it. `name` begins every file's name and is the dataset's name in TFDS."""

    name: str
    table: TableSpec
    images: ImagesSpec = ImagesSpec()
    label: LabelSpec = LabelSpec()
    metadata: MetadataSpec = MetadataSpec()
    folds: FoldsSpec = FoldsSpec()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                "name must be lower-case letters, digits and _, beginning with a letter "
                f"(TFDS takes no other), got {self.name!r}"
            )

    @property
    def image_path(self) -> str:
        """The template of an image's path."""
        return self.images.path or f"{{{self.table.id}}}.jpg"


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a path template names."""
    return tuple(re.findall(r"\{([^{}]+)\}", template))


def read_spec(path: str | None, flags: Mapping[str, Any]) -> DatasetSpec:
    """The spec in the TOML file `path`, if any, with the nested tables `flags` laid over it.

    A relative `csv` or `drop` is relative to the working directory, like every other path that a
    command line names.
    """
    tables = merge(load_toml(path) if path else {}, flags)
    return from_tables(DatasetSpec, tables, path or "command line")


def spec_to_json(spec: DatasetSpec) -> dict[str, Any]:
    """The spec as plain tables, for the plan and the manifest."""
    return to_tables(spec)
