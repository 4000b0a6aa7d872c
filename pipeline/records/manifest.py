"""The manifest: what a record set is, written last, so that one without it is not complete.

`beam_jobs.make_records` writes it; the trainer and `verify_records` learn from it which shards
there are, how many examples each holds and what is in an example, and never list a folder.
Beside it lies `rows.parquet`: one line an example without its pixels (see `read_rows`).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from pipeline.records.features import Feature, features_from_json, features_to_json
from pipeline.records.label import LabelInfo as LabelInfo
from pipeline.records.label import LabelKind as LabelKind
from pipeline.records.label import label_from_json

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
ROWS_NAME = "rows.parquet"
_ROWS_A_GROUP = 1 << 13  # encoded at once: bounds the memory of writing them
_log = logging.getLogger(__name__)


class ManifestError(DataError):
    """A record set is missing, incomplete, of a newer schema or not what was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One TFRecord file, named relative to the manifest's folder."""

    file: str
    part: str
    examples: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartInfo:
    """What one part holds, counted over the examples that were written."""

    part: str
    fold: int  # -1 outside folds
    examples: int
    groups: int
    classes: dict[str, int]  # class name -> examples; a multilabel example counts in several


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """See DESIGN of the format in `docs/records.md`; every field is JSON as it stands."""

    name: str
    size: int | None  # px; None for records without images
    features: tuple[Feature, ...]
    label: LabelInfo
    parts: tuple[PartInfo, ...]
    shards: tuple[ShardInfo, ...]
    plan_digest: str
    render_digest: str
    spec: dict[str, Any]
    failures: dict[str, int]  # reason -> rows
    failures_over_limit: bool
    pixel_mean: tuple[float, ...]  # by channel, in [0, 1]
    pixel_std: tuple[float, ...]
    versions: dict[str, str]
    render: dict[str, Any] = dataclasses.field(default_factory=dict)  # fit, quality, …
    enlarged: int = 0  # images that were smaller than the size
    is_red_blue_swapped: bool = False  # in adopted records; whoever shows pixels swaps them back

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts, folds first and in order."""
        return tuple(part.part for part in self.parts)

    @property
    def record_folds(self) -> tuple[int, ...]:
        """The numbers of the folds the records were cut into; empty when parts were given."""
        return tuple(sorted(part.fold for part in self.parts if part.fold >= 0))

    @property
    def first_rows(self) -> tuple[int, ...]:
        """Of each shard, the examples in the shards before it.

        Where records hold no `row` (they were adopted), this is the row of a shard's first record,
        and the following records count on from it.
        """
        counts = [shard.examples for shard in self.shards]
        return tuple(itertools.accumulate(counts[:-1], initial=0)) if counts else ()

    def part(self, name: str) -> PartInfo:
        """One part by name, or an error that lists them."""
        for part in self.parts:
            if part.part == name:
                return part
        raise ManifestError(f"part must be one of {', '.join(self.part_names)}, got {name!r}")

    def shards_of(self, parts: Collection[str]) -> tuple[ShardInfo, ...]:
        """The shards of some parts in the manifest's order."""
        for name in parts:
            self.part(name)
        return tuple(shard for shard in self.shards if shard.part in parts)

    def examples_in(self, parts: Collection[str]) -> int:
        """How many examples some parts hold together."""
        return sum(shard.examples for shard in self.shards_of(parts))

    def to_json(self) -> str:
        """One deterministic text for one manifest."""
        tables = dataclasses.asdict(self)
        tables["features"] = features_to_json(self.features)
        return json.dumps({"schema_version": SCHEMA_VERSION, **tables}, indent=1) + "\n"


def read_manifest(folder: str) -> Manifest:
    """The manifest of the record set in `folder` (`OUT/SIZE`).

    Raises:
      SettingsError: there is no such folder.
      ManifestError: it has none (the set is not complete), a damaged one, or of a newer schema.
    """
    path = storage.join(folder, MANIFEST_NAME)
    try:
        tables = json.loads(storage.read_bytes(path))
    except FileNotFoundError as error:
        below = [
            name
            for name in storage.list_names(folder)
            if storage.exists(storage.join(folder, name, MANIFEST_NAME))
        ]
        if below:
            sets = " or ".join(storage.join(folder, name) for name in below)
            raise ManifestError(
                f"{folder}: the records of one size must be named: {sets}"
            ) from error
        if not storage.exists(folder):
            raise SettingsError(
                f"{folder}: records must be a folder that is there, such as OUT/256, got none of "
                "that name"
            ) from error
        raise ManifestError(
            f"{path}: no such file: the records are missing or not complete; "
            "run make_records with the same flags to finish them"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # no other ValueError: a refusal
        raise ManifestError(f"{path}: not valid JSON: {error}") from error
    version = tables.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, got {version!r}; "
            "read it with the version of foldstream that wrote it, or a newer one"
        )
    try:
        return _from_tables(tables, path)
    except (TypeError, KeyError) as error:
        raise ManifestError(f"{path}: not a manifest: {error}") from error


def manifest_version(folder: str) -> storage.Version:
    """What `write_manifest` is to find unchanged; taken when the work on a set begins."""
    return storage.version(storage.join(folder, MANIFEST_NAME))


def write_manifest(folder: str, manifest: Manifest, over: storage.Version | None = None) -> None:
    """Commits a record set: after this it is complete.

    Where another than the manifest `over` is there, another process has committed the set since: an
    equal one is warned of and stays.

    Raises:
      ManifestError: its manifest differs; it is left as it is.
    """
    path, text = storage.join(folder, MANIFEST_NAME), manifest.to_json()
    if over is None:
        storage.write_text(path, text)
    elif storage.write_over(path, text, over):
        return
    elif _text_of(path) == text:
        _log.warning("%s: another process was first to commit the very same", path)
    else:
        raise ManifestError(
            f"{path}: it must stay as it was when this process began, got another, which a second "
            "process has committed; let one write here at a time, and ask verify_records whether "
            "the set is whole"
        )


def _text_of(path: str) -> str | None:
    try:
        return storage.read_text(path)
    except FileNotFoundError:
        return None


def read_rows(folder: str, columns: list[str] | None = None) -> pd.DataFrame:
    """One line an example, in order of row: what the host looks up, for a TPU takes no strings.

    Columns: `row` int64, `id`, `group`, `part` text, `fold` int64, `target` int64 (a list of
    float32 for multilabel), then each feature of role `category` (text, "" for missing) and
    `number` (float32, NaN for missing) under its feature name. `columns` reads these alone.
    """
    with storage.open_read(storage.join(folder, ROWS_NAME)) as file:
        return pd.read_parquet(file, columns=columns)


def write_rows(folder: str, rows: pd.DataFrame) -> None:
    """Writes the table that `read_rows` reads."""
    with storage.writing(storage.join(folder, ROWS_NAME)) as file:
        rows.to_parquet(file, index=False, row_group_size=_ROWS_A_GROUP)


def _from_tables(tables: Mapping[str, Any], path: str) -> Manifest:
    return Manifest(
        **{
            **tables,
            "features": features_from_json(tables["features"], path),
            "label": label_from_json(tables["label"]),
            "parts": tuple(PartInfo(**part) for part in tables["parts"]),
            "shards": tuple(ShardInfo(**shard) for shard in tables["shards"]),
            "pixel_mean": tuple(tables["pixel_mean"]),
            "pixel_std": tuple(tables["pixel_std"]),
        }
    )
