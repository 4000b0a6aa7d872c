"""A manifest and a row table for TFRecords that others wrote; the record files are only read.

`beam_jobs.verify_records --adopt` calls `adopt_records`; after it the folder opens like any record
set. What a feature means is guessed from its name, or said in a TOML file (`AdoptSpec`):

    name = "isic512"
    rename = { anatom_site_general = "anatom_site_general_challenge" }
    roles = { image_name = "id", patient_id = "group", sex = "category", diagnosis = "category" }
    codes = { sex = ["male", "female"], diagnosis = { 0 = "unknown", 2 = "melanoma" } }
    parts = { "train0*" = "fold0", "train1*" = "fold1", "test*" = "test" }
    [label]
    classes = ["benign", "malignant"]

Such records hold no row: it is their place, counted through the manifest's shards
(`Manifest.first_rows`). Red and blue that were swapped when the records were written are swapped
back by whoever reads the pixels (`Manifest.is_red_blue_swapped`).
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.dataset.parts import fold_of, part_order
from pipeline.dataset.plan import count_part
from pipeline.errors import DataError, SettingsError
from pipeline.images.decode import open_source
from pipeline.images.image_error import ImageError
from pipeline.ordered import map_ordered
from pipeline.records.adopt_spec import AdoptLabel, AdoptSpec, name_features, part_of
from pipeline.records.check import feature_columns, table_value
from pipeline.records.example import ExampleCodec
from pipeline.records.features import (
    Feature,
    features_to_json,
    with_role,
)
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardInfo,
    manifest_version,
    read_manifest,
    write_manifest,
    write_rows,
)
from pipeline.records.tfrecord import HashingReader, read_records
from pipeline.records.wire import Kind, read_example
from pipeline.settings import to_tables

ADOPTED = "adopted"  # the key in the manifest's spec that tells an adopted set
_FILE = re.compile(r".+\.(tfrec|tfrecords?)(-\d+-of-\d+)?")
_MOST_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Record:
    """What is kept of one record: its line of the row table, and what its pixels tell."""

    line: dict[str, Any]  # values of the features that have a column
    size: tuple[int, int] | None  # width and height, px
    pixel_counts: npt.NDArray[np.int64]  # [3, 256]


def adopt_records(folder: str, spec: AdoptSpec, pool: Executor) -> tuple[Manifest, list[str]]:
    """Reads all records of a folder, writes `rows.parquet` and the manifest; what was guessed.

    Raises:
      DataError: no record files, records that differ in their features, are damaged, repeat an id,
        or whose images are not of one square size; a manifest that `make_records` wrote.
      SettingsError: the spec names what no record holds.
    """
    before = manifest_version(folder)
    _refuse_own_records(folder)
    files = [name for name in storage.list_names(folder) if _FILE.fullmatch(name)]
    if not files:
        raise DataError(f"{folder}: there must be TFRecord files (.tfrec, .tfrecord), got none")
    features, notes = name_features(_first_example(folder, files), spec)
    parts = {file: part_of(file, spec, notes) for file in files}
    files.sort(key=lambda file: (part_order(parts[file]), file))
    reader = _Reader(features)
    counts, sizes = np.zeros((3, 256), np.int64), collections.Counter[tuple[int, int]]()
    lines: list[dict[str, Any]] = []
    shards = []
    for file in files:
        examples = len(lines)
        with storage.open_read(storage.join(folder, file)) as opened:
            hashing = HashingReader(opened)
            for place, record in enumerate(_read(hashing, file, reader, pool)):
                counts += record.pixel_counts
                sizes.update([record.size] if record.size else [])
                keys = {"id": f"{file}:{place}", "part": parts[file], "file": file}
                lines.append({**keys, **record.line})
        shards.append(
            ShardInfo(
                file=file, part=parts[file], examples=len(lines) - examples,
                bytes=hashing.length, sha256=hashing.sha256,
            )
        )  # fmt: skip
    rows, label = _row_table(lines, features, spec)
    mean, std = _mean_and_std(counts[::-1] if spec.is_red_blue_swapped else counts)
    manifest = Manifest(
        name=spec.name,
        size=_one_size(folder, sizes),
        features=features,
        label=label,
        parts=tuple(
            count_part(rows, part, label) for part in sorted(set(parts.values()), key=part_order)
        ),
        shards=tuple(shards),
        plan_digest=_digest(rows.to_json(), features_to_json(features)),
        render_digest=_digest([shard.sha256 for shard in shards], spec.is_red_blue_swapped),
        spec={ADOPTED: to_tables(spec)},
        failures={},
        failures_over_limit=False,
        pixel_mean=mean,
        pixel_std=std,
        versions={},
        is_red_blue_swapped=spec.is_red_blue_swapped,
    )
    write_rows(folder, rows)
    write_manifest(folder, manifest, before)
    return manifest, notes


def _refuse_own_records(folder: str) -> None:
    path = storage.join(folder, MANIFEST_NAME)
    if storage.exists(path) and ADOPTED not in read_manifest(folder).spec:
        raise DataError(f"{path}: records must be others' to be adopted, got a set of make_records")


def _first_example(folder: str, files: Sequence[str]) -> dict[str, tuple[Kind, Any]]:
    for file in files:
        with storage.open_read(storage.join(folder, file)) as opened:
            for _, data in read_records(opened, file):
                return read_example(data)
    raise DataError(f"{folder}: files must hold records, got none in all {len(files)}")


class _Reader:
    """Serialized example → `_Record`; called from several threads."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._codec = ExampleCodec(features)
        self._image = next((f.name for f in with_role(features, "image")), None)
        self._columns = _columns_of(features)

    def read(self, data: bytes) -> _Record:
        values = self._codec.decode(data)
        line = {
            column: table_value(feature, values[feature.name]) for feature, column in self._columns
        }
        if self._image is None:
            return _Record(line=line, size=None, pixel_counts=np.zeros((3, 256), np.int64))
        pixels = open_source(values[self._image], _MOST_PIXELS).decode(8).pixels
        height, width = pixels.shape[:2]
        channels = pixels.reshape(height * width, -1).T  # one of a gray image
        counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
        return _Record(
            line=line, size=(width, height), pixel_counts=np.broadcast_to(counts, (3, 256))
        )


def _columns_of(features: Sequence[Feature]) -> list[tuple[Feature, str]]:
    columns = feature_columns(features)
    return [(feature, columns[feature.name]) for feature in features if feature.name in columns]


def _read(file: HashingReader, name: str, reader: _Reader, pool: Executor) -> Iterator[_Record]:
    def read(item: tuple[int, tuple[int, bytes]]) -> _Record:
        number, (offset, data) = item
        try:
            return reader.read(data)
        except (ImageError, ValueError) as error:
            raise DataError(f"{name}: record {number} at byte {offset}: {error}") from error

    return map_ordered(pool, read, enumerate(read_records(file, name)))


def _row_table(
    lines: list[dict[str, Any]], features: Sequence[Feature], spec: AdoptSpec
) -> tuple[pd.DataFrame, LabelInfo]:
    """`rows.parquet` in order of place, and the label that its targets tell."""
    rows = pd.DataFrame(lines)
    repeated = rows.index[rows["id"].duplicated()]
    if len(repeated):
        again = rows.loc[repeated[0]]
        first = rows[rows["id"] == again["id"]].iloc[0]
        raise DataError(
            f"{again['file']}: ids must differ, got {len(repeated)} again; the first of them is "
            f"also in {first['file']}"
        )
    label = LabelInfo(kind="none")
    if with_role(features, "target"):
        label = _label(np.array(rows["target"].tolist()), spec.label)
    else:
        rows["target"] = -1
    for feature, column in _columns_of(features):
        if feature.role == "number":
            rows[column] = rows[column].astype(np.float32)
    rows["row"] = np.arange(len(rows))
    rows["fold"] = rows["part"].map(fold_of)
    if "group" not in rows:
        rows["group"] = rows["id"]
    first_columns = ["row", "id", "group", "part", "fold", "target"]
    others = [name for name in rows.columns if name not in (*first_columns, "file")]
    return rows[first_columns + others], label


def _label(target: npt.NDArray[Any], spec: AdoptLabel) -> LabelInfo:
    count = target.shape[1] if target.ndim == 2 else int(target.max(initial=1)) + 1
    classes = spec.classes or tuple(map(str, range(count)))
    if len(classes) < count or (target.ndim == 2 and len(classes) != count):
        raise SettingsError(f"label.classes must be {count}, got {len(classes)}")
    if target.ndim == 2:
        return LabelInfo(kind="multilabel", classes=classes, positive=spec.positive)
    if len(classes) == 2:
        return LabelInfo(kind="binary", classes=classes, positive=classes[1:])
    return LabelInfo(kind="multiclass", classes=classes, positive=spec.positive)


def _one_size(folder: str, sizes: collections.Counter[tuple[int, int]]) -> int | None:
    if not sizes:
        return None
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) > 1 or width != height:
        found = ", ".join(f"{w}×{h}" for w, h in sorted(sizes)[:4])
        raise DataError(
            f"{folder}: images must be squares of one size, got {found}; make records of the "
            "sources with make_records"
        )
    return width


def _mean_and_std(
    counts: npt.NDArray[np.int64],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """By channel, in [0, 1]; zeros without pixels."""
    if not counts.any():
        return (0.0,) * 3, (0.0,) * 3
    values = np.arange(256) / 255
    means = [float(np.average(values, weights=channel)) for channel in counts]
    stds = [
        float(np.sqrt(np.average((values - mean) ** 2, weights=channel)))
        for mean, channel in zip(means, counts, strict=True)
    ]
    return tuple(means), tuple(stds)


def _digest(*tables: Any) -> str:
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()
