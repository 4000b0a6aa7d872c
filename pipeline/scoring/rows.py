"""What is to be scored: rows of a table, or the images under a folder, with the models' metadata.

Read as make_records reads a table (`pipeline.dataset.table`), so ids, paths, missing values and
numbers mean the same and are refused for the same reasons.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from pipeline.dataset.labels import TableError
from pipeline.dataset.sources.text import column_names
from pipeline.dataset.spec import (
    DERIVED_COLUMNS,
    FOLDER_COLUMNS,
    DatasetSpec,
    read_spec,
    template_columns,
)
from pipeline.dataset.table import NO_LABEL, Table, read_table
from pipeline.errors import SettingsError
from pipeline.records.features import stored_name, table_column
from pipeline.scoring.exported import Column, ExportedModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from; what is None follows from the models' records."""

    images: str  # the root of the paths; without a table, all images under it are rows
    csv: str | None = None
    id: str | None = None
    image_path: str | None = None
    group: str | None = None
    missing: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """`frame`: row, id, group, path and the metadata that is there, in order of id; and notes."""

    frame: pd.DataFrame
    notes: tuple[str, ...]


def read_rows(source: Source, models: Sequence[ExportedModel]) -> Rows:
    """The rows to score.

    A column of metadata that is not there is a note, and counts as missing in each row.

    Raises:
      SettingsError: a flag is at fault, or the models disagree on what a column is.
      TableError: the table is.
    """
    columns = metadata_columns(models)
    if source.csv is None:
        spec = _folder_spec(source)
    else:
        spec = _table_spec(source, source.csv, columns, models[0].spec)
    table = read_table(spec)
    ids = table.ids
    # Of records that were made of a folder tree, ids are whole paths.
    if source.csv is None and models[0].spec.get("table", {}).get("id") != FOLDER_COLUMNS[0]:
        ids = _without_endings(table)
    data: dict[str, Any] = {"id": ids, "group": table.groups, "path": table.paths}
    if spec.table.group is None:
        data["group"] = ids
    for name in columns:
        if name in table.columns:
            data[table_column(name)] = table.columns[name].to_numpy()
    frame = pd.DataFrame(data).sort_values("id", kind="stable", ignore_index=True)
    frame.insert(0, "row", np.arange(len(frame), dtype=np.int64))
    where = source.csv or source.images
    notes = [note for note in table.notes if note != NO_LABEL]
    notes += _metadata_notes(frame, columns, models, where)
    return Rows(frame=frame, notes=tuple(notes))


def metadata_columns(models: Sequence[ExportedModel]) -> dict[str, Column]:
    """Each column that any of the models takes, by name."""
    columns: dict[str, Column] = {}
    for column in (column for model in models for column in model.columns):
        there = columns.setdefault(column.name, column)
        if (there.known is None) != (column.known is None):
            raise SettingsError(
                f"--models must agree on their columns, got {column.name!r} as a category and as a "
                "number; score them apart"
            )
    return columns


def _table_spec(
    source: Source, csv: str, columns: Mapping[str, Column], records: Mapping[str, Any]
) -> DatasetSpec:
    """The table's columns by flag, or else as in the records that the first model learnt from."""
    names = column_names(csv)
    there = {stored_name(name): name for name in names}
    of_records: Mapping[str, Any] = records.get("table", {})
    id_ = source.id or of_records.get("id")
    if id_ is None or (source.id is None and id_ not in names):
        raise SettingsError(
            f"--id must be given: the column that names an image; {csv} has no column {id_!r}, as "
            f"the model's records have, but {', '.join(names)}"
        )
    path = source.image_path or records.get("images", {}).get("path")
    if source.image_path is None and path and not {*template_columns(path)} <= {*names}:
        path = None
    group = source.group or of_records.get("group")
    if source.group is None and group not in names:
        group = None
    missing = source.missing or of_records.get("missing")
    derived = [name for name in columns if name in DERIVED_COLUMNS and name not in there and group]
    tables: dict[str, Any] = {
        "name": "scores",
        "table": {"csv": csv, "id": id_},
        "label": {"kind": "none"},
        "metadata": {
            "categorical": [
                there[name] for name, column in columns.items()
                if name in there and column.known is not None
            ],
            "numeric": [
                there[name] for name, column in columns.items()
                if name in there and column.known is None
            ],
            "derived": derived,
        },
    }  # fmt: skip
    tables["table"] |= {"group": group} if group else {}
    tables["table"] |= {"missing": list(missing)} if missing else {}
    tables["images"] = {"path": path} if path else {}
    return read_spec(None, tables)


def _folder_spec(source: Source) -> DatasetSpec:
    for flag in ("id", "image_path", "group", "missing"):
        if getattr(source, flag) is not None:
            raise SettingsError(f"--{flag} must be given with --csv, got it without a table")
    tables = {"name": "scores", "folders": {"root": source.images}, "label": {"kind": "none"}}
    return read_spec(None, tables)


def _without_endings(table: Table) -> np.ndarray:
    """The ids of a folder's images: the paths without their endings."""
    ids = np.array([str(PurePosixPath(path).with_suffix("")) for path in table.paths], dtype=object)
    is_repeated = pd.Series(ids).duplicated().to_numpy()
    if is_repeated.any():
        raise TableError(
            f"--images: file names without their ending must not repeat, got {is_repeated.sum()} "
            "that do; rename them, or give --csv"
        )
    return ids


def _metadata_notes(
    frame: pd.DataFrame,
    columns: Mapping[str, Column],
    models: Sequence[ExportedModel],
    where: str,
) -> list[str]:
    notes = []
    lacking = [name for name in columns if table_column(name) not in frame]
    if lacking:
        notes.append(
            f"{where}: no column {', '.join(map(repr, lacking))}, which the models take: scored as "
            "missing in every row"
        )
    for name, column in columns.items():
        if column.known is None or name in lacking:
            continue
        known = {value for model in models for of in model.columns if of.name == name
                 for value in of.known or ()}  # fmt: skip
        unknown = ~frame[table_column(name)].isin([*known, ""])
        if unknown.any():
            holds = "row holds" if unknown.sum() == 1 else "rows hold"
            notes.append(
                f"{where}: {unknown.sum():,} {holds} a {name!r} that no model met in training"
            )
    return notes
