"""The plan: which example goes into which shard, decided before any image is read.

`make_records` writes it under `OUT/plan/` and then only works it off; a worker reads one shard's
rows and needs to know of no other. Everything here follows from the table, the spec and the cut,
never from the machine, so the same input gives the same plan anywhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.dataset.labels import count_classes
from pipeline.dataset.parts import fold_of, name_parts, part_order
from pipeline.dataset.spec import DatasetSpec, spec_to_json
from pipeline.dataset.table import Table
from pipeline.errors import DataError
from pipeline.records.features import Feature, features_from_json, features_to_json, table_column
from pipeline.records.label import LabelInfo, label_from_json
from pipeline.records.manifest import PartInfo
from pipeline.records.tfds import shard_file
from pipeline.settings import differences

SCHEMA_VERSION = 1
DEFAULT_ROWS_PER_SHARD = 1024


class PlanError(DataError):
    """There is no plan, or not the one that was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """One shard: the unit of work."""

    part: str
    file: str  # TensorFlow Datasets' naming: `siim2020-fold0.tfrecord-00000-of-00007`
    rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All but the rows, which lie beside it (`read_shard_rows`, `read_plan_rows`)."""

    name: str
    digest: str  # of who goes where, see `_digest`
    spec: dict[str, Any]
    rows_per_shard: int
    features: tuple[Feature, ...]  # of a record
    label: LabelInfo
    parts: tuple[PartInfo, ...]
    shards: tuple[ShardPlan, ...]
    dropped: int
    notes: tuple[str, ...] = ()  # what a user should know of how the table was read

    def to_json(self) -> str:
        """One deterministic text for one plan."""
        tables = {**dataclasses.asdict(self), "features": features_to_json(self.features)}
        return json.dumps({"schema_version": SCHEMA_VERSION, **tables}, indent=1) + "\n"


def make_plan(table: Table, spec: DatasetSpec, rows_per_shard: int) -> tuple[Plan, pd.DataFrame]:
    """The plan, and its rows in order of (shard, position): `TABLE_COLUMNS`, then the features'."""
    rows = pd.DataFrame(
        {
            "row": np.arange(len(table), dtype=np.int64),
            "id": table.ids,
            "group": table.groups,
            "target": list(table.target) if table.target.ndim == 2 else table.target,
            "path": table.paths,
        }
    )
    rows["part"], rows["fold"] = name_parts(table, spec)
    if table.vectors is not None:
        rows["values_offset"], rows["values_bytes"] = table.vectors.offsets, table.vectors.sizes
    for feature in table.features:
        if feature.role in ("id", "group"):
            continue
        rows[table_column(feature.name)] = table.columns[feature.name].to_numpy()
    parts = sorted(rows["part"].unique(), key=part_order)
    sizes = rows["part"].value_counts()
    shards = [
        shard
        for part in parts
        for shard in cut_part(spec.name, part, int(sizes[part]), rows_per_shard)
    ]
    rows = _order_rows(rows, parts, shards, spec.folds.seed)
    features = _record_features(table, spec)
    plan = Plan(
        name=spec.name,
        digest=_digest(spec.name, rows, features, table.label),
        spec=spec_to_json(spec),
        rows_per_shard=rows_per_shard,
        features=features,
        label=table.label,
        parts=tuple(count_part(rows, part, table.label) for part in parts),
        shards=tuple(shards),
        dropped=table.dropped,
        notes=table.notes,
    )
    return plan, rows


def write_plan(folder: str, plan: Plan, rows: pd.DataFrame, may_replace: bool = False) -> None:
    """Writes `plan.json`, then `plan.parquet`, a row group a shard.

    A plan that is there already must be equal, and its rows are written again, for they may be
    damaged or not there yet. `may_replace` says that another plan may go, as long as no size was
    begun under it: for who looks at folds until they please.

    Raises:
      PlanError: there is another plan; it is left as it is.
    """
    path = storage.join(folder, "plan.json")
    if may_replace and not storage.exists(storage.join(folder, "done")):
        storage.write_text(path, plan.to_json())
    elif not storage.write_new(path, plan.to_json()):
        there = read_plan(folder)
        if there.digest != plan.digest:
            old, new = (
                {**json.loads(json.dumps(one.spec)), "rows_per_shard": one.rows_per_shard}
                for one in (there, plan)
            )
            differing = differences(old, new) or ["the table's rows"]
            raise PlanError(
                f"{folder}: the plan must be the one that is there, got another: "
                f"{', '.join(differing)}; write into another --output, or give --overwrite to "
                "start this one afresh"
            )
    write_plan_rows(folder, rows, [shard.rows for shard in plan.shards])


def write_plan_rows(folder: str, rows: pd.DataFrame, sizes: Sequence[int]) -> None:
    """Writes `plan.parquet`, a row group a shard; `sizes` are the shards' numbers of rows."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    path = storage.join(folder, "plan.parquet")
    with storage.writing(path) as file, pq.ParquetWriter(file, table.schema) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size), row_group_size=size)
            start += size


def read_plan(folder: str) -> Plan:
    """The plan in `OUT/plan`.

    Raises:
      PlanError: there is none, it is damaged, or of a newer schema.
    """
    path = storage.join(folder, "plan.json")
    try:
        tables = json.loads(storage.read_bytes(path))
        version = tables.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise PlanError(f"{path}: schema_version must be {SCHEMA_VERSION}, got {version!r}")
        return Plan(
            **{
                **tables,
                "features": features_from_json(tables["features"], path),
                "label": label_from_json(tables["label"]),
                "parts": tuple(PartInfo(**part) for part in tables["parts"]),
                "shards": tuple(ShardPlan(**shard) for shard in tables["shards"]),
                "notes": tuple(tables["notes"]),
            }
        )
    except FileNotFoundError as error:
        raise PlanError(f"{path}: no such file; run make_records to write it") from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise PlanError(f"{path}: not a plan: {error}") from error


def read_shard_rows(folder: str, shard: int) -> pd.DataFrame:
    """One shard's rows in order of position; reads no other shard's."""
    with storage.open_read(storage.join(folder, "plan.parquet")) as file:
        rows: pd.DataFrame = pq.ParquetFile(file).read_row_group(shard).to_pandas()
    return rows


def read_plan_rows(folder: str) -> pd.DataFrame:
    """All rows, in order of (shard, position)."""
    with storage.open_read(storage.join(folder, "plan.parquet")) as file:
        rows: pd.DataFrame = pq.read_table(file).to_pandas()
    return rows


def cut_part(name: str, part: str, examples: int, rows_per_shard: int) -> list[ShardPlan]:
    """The shards of one part, equally long but for one row."""
    count = -(-examples // rows_per_shard)
    return [
        ShardPlan(
            part=part,
            file=shard_file(name, part, index, count),
            rows=examples // count + (index < examples % count),
        )
        for index in range(count)
    ]


def count_part(rows: pd.DataFrame, part: str, label: LabelInfo) -> PartInfo:
    """What `rows` (columns part, group, target) hold of one part."""
    mine = rows.loc[rows["part"] == part, ["group", "target"]]
    target = mine["target"].to_numpy()
    if target.dtype == object and len(target):  # a vector a row
        target = np.stack(list(target))
    return PartInfo(
        part=part,
        fold=fold_of(part),
        examples=len(mine),
        groups=int(mine["group"].nunique()),
        classes=count_classes(target, label.classes) if len(mine) else {},
    )


def _order_rows(
    rows: pd.DataFrame, parts: Sequence[str], shards: Sequence[ShardPlan], seed: int
) -> pd.DataFrame:
    """Rows by part, then by hash(seed, id): a shard is a fair sample of its part."""
    hash_of, names = hashlib.blake2b, (f"{seed}:{name}".encode() for name in rows["id"].tolist())
    digests = [hash_of(name, digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(digests), ">u8")
    place = rows["part"].map({part: index for index, part in enumerate(parts)})
    order = np.lexsort([keys, place.to_numpy()])
    rows = rows.iloc[order].reset_index(drop=True)
    sizes = [shard.rows for shard in shards]
    rows["shard"] = np.repeat(np.arange(len(shards), dtype=np.int32), sizes)
    rows["position"] = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    return rows


def _record_features(table: Table, spec: DatasetSpec) -> tuple[Feature, ...]:
    """A record's features: the table's columns and what the pipeline itself adds."""
    of_pipeline = [
        Feature(name="row", dtype="int64", role="row"),
        Feature(name="part", dtype="string", role="part"),
        Feature(name="fold", dtype="int64", role="fold"),
        Feature(name="sha256", dtype="string", role="source"),
    ]
    if table.target.ndim == 2:
        shape = (table.target.shape[1],)
        of_pipeline.append(Feature(name="target", dtype="float32", shape=shape, role="target"))
    else:
        of_pipeline.append(Feature(name="target", dtype="int64", role="target"))
    if table.vectors is not None:
        length = (table.vectors.source.length,)
        of_pipeline.append(Feature(name="values", dtype="float32", shape=length, role="values"))
    if spec.has_images:
        of_pipeline += [
            Feature(name="image", dtype="bytes", role="image"),
            Feature(name="width", dtype="int64", role="source"),
            Feature(name="height", dtype="int64", role="source"),
        ]
    return tuple(sorted([*of_pipeline, *table.features], key=lambda f: f.name))


def _digest(name: str, rows: pd.DataFrame, features: Sequence[Feature], label: LabelInfo) -> str:
    """SHA-256 over each row's content and place: equal digests, equal records but for pixels."""
    digest = hashlib.sha256()
    head = [SCHEMA_VERSION, name, features_to_json(features), dataclasses.asdict(label)]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name in sorted(rows.columns):
        for data in (json.dumps([name, len(rows)]).encode(), *_column_bytes(rows[name])):
            digest.update(data)
    return digest.hexdigest()


def _column_bytes(column: pd.Series) -> tuple[bytes, ...]:
    """Bytes that are equal where the values are, whatever pandas or the machine hold them in."""
    if isinstance(column.iloc[0], str):
        texts = column.tolist()
        lengths = np.fromiter(map(len, texts), "<i8", len(texts))
        return "".join(texts).encode(), lengths.tobytes()
    values = np.stack(column.tolist()) if column.dtype == object else column.to_numpy()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.float32(np.nan), values)  # one NaN of the many
    return (values.astype(values.dtype.newbyteorder("<")).tobytes(),)
