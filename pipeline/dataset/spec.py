"""The dataset spec: what a table's columns mean, and how its rows are cut into parts.

Written as TOML (`datasets/*.toml`) or as flags of `beam_jobs.make_records`; both fill
`DatasetSpec`. It says nothing of pixels: the images' root, sizes and quality belong to a rendering
(`pipeline.images.render.RenderSpec`), and many renderings share one spec.

A folder tree is read as a table with the columns of `FOLDER_COLUMNS`, so that only its listing
(`pipeline.dataset.sources.folders`) knows of folders.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.records.label import LabelKind
from pipeline.settings import from_tables, load_toml, merge, nearest, to_tables

DEFAULT_MISSING = ("", "NA", "NaN", "nan")
FOLDER_COLUMNS = ("file", "class", "part")  # of a folder tree read as a table
DERIVED_COLUMNS = ("images_per_group",)  # what `pipeline.dataset.groups` can compute


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The table and the columns that say who an example is."""

    csv: str  # a CSV, as it is or gzipped, or a Parquet file; the root of a folder tree
    id: str
    group: str | None = None  # a patient, a lesion: never split across parts
    weight: str | None = None  # how much a row counts in training; missing counts 1
    keep: Literal["all"] | tuple[str, ...] = ()  # further columns that go into the records
    missing: tuple[str, ...] = DEFAULT_MISSING  # what counts as missing, in any column but the id


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldersSpec:
    """A folder tree in place of a table: an image's class is the path of its folder."""

    root: str
    parts: tuple[str, ...] = ()  # first-level folders that are parts; none: parts are dealt

    def __post_init__(self) -> None:
        for part in self.parts:
            if not re.fullmatch(r"[\w-]+", part, re.ASCII) or part == "all":
                raise ValueError(
                    "folders.parts must be names of letters, digits, _ and -, and not 'all', "
                    f"got {part!r}; rename the folder"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesSpec:
    """Where an example's image is: a template over the CSV's columns, under the images' root."""

    path: str | None = None  # None: the id with `.jpg`, or no images where there are values

    def __post_init__(self) -> None:
        if self.path is not None and not template_columns(self.path):
            raise ValueError(
                "images.path must name a column such as '{image_name}.jpg', "
                f"got {self.path!r}, which is the same file for every row"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValuesSpec:
    """A vector of floats an example, such as a spectrum: beside its image, or in place of it."""

    columns: tuple[str, ...] = ()  # of the table: names, or `FIRST:LAST`, both included
    npy: str | None = None  # or an array [rows of the table, D], in the table's order

    def __post_init__(self) -> None:
        if bool(self.columns) == (self.npy is not None):
            raise ValueError(
                "values must have columns or npy, and not both, "
                f"got columns {list(self.columns)} and npy {self.npy!r}"
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
            raise ValueError(
                f"label.column must be one column for label.kind {self.kind!r}, got "
                f"{', '.join(self.column)}; name one, or take label.kind 'multilabel'"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataSpec:
    """The columns that a model may be given beside the image."""

    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()  # numbers that the table does not have, see DERIVED_COLUMNS

    def __post_init__(self) -> None:
        for name in self.derived:
            if name not in DERIVED_COLUMNS:
                raise ValueError(
                    f"metadata.derived must be of {', '.join(DERIVED_COLUMNS)}, got {name!r}; "
                    f"{nearest(name, DERIVED_COLUMNS)}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldsSpec:
    """How rows are cut into parts."""

    count: int = 5
    seed: int = 42
    holdout: float | None = None  # the share of the rows that goes into the part `holdout`
    column: str | None = None  # a column that names each row's fold or part; none is computed then
    drop: str | None = None  # FILE[:COLUMN], a table of ids to leave out
    join_groups: str | None = None  # a table of id_1, id_2: pairs that must be in one part

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"folds.count must be 2 or more, got {self.count}")
        if self.seed < 0:
            raise ValueError(f"folds.seed must be 0 or more, got {self.seed}")
        if self.holdout is not None and not 0 < self.holdout < 1:
            raise ValueError(f"folds.holdout must be in (0, 1), got {self.holdout}")
        if self.holdout is not None and self.column is not None:
            raise ValueError("folds.holdout must not be given with folds.column, which names parts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """All of it. `name` begins every file's name and is the dataset's name in TFDS."""

    name: str
    table: TableSpec
    folders: FoldersSpec | None = None
    images: ImagesSpec = ImagesSpec()
    values: ValuesSpec | None = None
    label: LabelSpec = LabelSpec()
    metadata: MetadataSpec = MetadataSpec()
    folds: FoldsSpec = FoldsSpec()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                "name must be lower-case letters, digits and _, beginning with a letter "
                f"(TFDS takes no other), got {self.name!r}"
            )
        if self.folders is not None and self.values is not None:
            raise ValueError("values must not be given for a folder tree, which has no columns")
        if "images_per_group" in self.metadata.derived and self.table.group is None:
            raise ValueError("metadata.derived 'images_per_group' must have table.group, got none")
        others = (self.table.id, self.table.group, *self.metadata.categorical)
        if self.table.weight in {*others, *self.metadata.numeric, self.label.column} - {None}:
            raise ValueError(
                f"table.weight must be a column of its own, got {self.table.weight!r}, which is "
                "the id, the group, the label or metadata as well"
            )
        if self.label.column is None and self.folds.column is None:
            for setting in ("holdout", "join_groups"):
                if getattr(self.folds, setting) is not None:
                    raise ValueError(
                        f"folds.{setting} must not be given without label.column, for an "
                        "unlabelled table is one part; name the label, or folds.column"
                    )

    @property
    def has_images(self) -> bool:
        """False for a table of values alone."""
        return self.values is None or self.images.path is not None

    @property
    def image_path(self) -> str:
        """The template of an image's path; "" where there are no images."""
        if not self.has_images:
            return ""
        return self.images.path or f"{{{self.table.id}}}.jpg"


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a path template names."""
    return tuple(re.findall(r"\{([^{}]+)\}", template))


def read_spec(path: str | None, flags: Mapping[str, Any]) -> DatasetSpec:
    """The spec in the TOML file `path`, if any, with the nested tables `flags` laid over it.

    A relative `csv` or `drop` is relative to the working directory, like every other path that a
    command line names.
    """
    where = path or "command line"
    tables = merge(load_toml(path) if path else {}, flags)
    if "folders" in tables:
        tables = merge(_folder_tables(tables, where), tables)
    return from_tables(DatasetSpec, tables, where)


def _folder_tables(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a folder tree's spec says of its columns, where the user says nothing else."""
    for table, key in (("table", "csv"), ("table", "id"), ("images", "path")):
        if key in tables.get(table, {}):
            raise SettingsError(
                f"{where}: {table}.{key} must not be given for a folder tree, whose files it would "
                f"name, got {tables[table][key]!r}; leave it out, or leave out --from_folders"
            )
    file, class_, part = FOLDER_COLUMNS
    folders, label = tables["folders"], tables.get("label", {})
    return {
        "table": {"csv": folders.get("root", ""), "id": file},
        "images": {"path": f"{{{file}}}"},
        "label": {} if label.get("kind") == "none" else {"column": class_},
        "folds": {"column": part} if folders.get("parts") else {},
    }


def spec_to_json(spec: DatasetSpec) -> dict[str, Any]:
    """The spec as plain tables, for the plan and the manifest."""
    return to_tables(spec)
