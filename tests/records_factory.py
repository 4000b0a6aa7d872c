"""Toy record sets for tests: real files in the real layout, small, and learnable.

Without TensorFlow. An image is noise around a grey, and the brightness of its red, green and blue
tells the class, so that a small net can learn it; metadata tells nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg

from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.records.manifest import (
    LabelInfo,
    LabelKind,
    Manifest,
    PartInfo,
    ShardInfo,
    write_manifest,
    write_rows,
)
from pipeline.records.tfds import shard_file, write_tfds_metadata
from pipeline.records.tfrecord import RecordWriter

LABELS: dict[LabelKind, LabelInfo] = {
    "binary": LabelInfo(kind="binary", classes=("benign", "malignant"), positive=("malignant",)),
    "multiclass": LabelInfo(kind="multiclass", classes=("nv", "mel", "bkl"), positive=("mel",)),
    "multilabel": LabelInfo(kind="multilabel", classes=("mass", "nodule", "effusion")),
    "none": LabelInfo(kind="none"),
}
ROWS_PER_GROUP = 2


def write_toy_records(
    folder: str | Path,
    *,
    rows: int = 40,
    size_px: int = 32,
    parts: Sequence[str] = ("fold0", "fold1", "fold2", "fold3"),
    kind: LabelKind = "binary",
    unlabelled: Sequence[str] = (),
    shards_per_part: int = 2,
    failures_over_limit: bool = False,
    seed: int = 0,
) -> Manifest:
    """Writes shards, `rows.parquet`, the TFDS metadata and the manifest of a set of `rows` images.

    Groups of two rows go to the parts in turn; a part named `foldK` is fold K. Rows of the parts
    `unlabelled` have target -1. `rows.parquet` is as `read_rows` says.
    """
    label, rng, folder = LABELS[kind], np.random.default_rng(seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(rows, parts, label, unlabelled, rng)
    codec = ExampleCodec(toy_features(kind))
    shards = []
    for part in parts:
        here = rng.permutation(table.index[table["part"] == part])
        for index, chosen in enumerate(np.array_split(here, shards_per_part)):
            file = shard_file("toy", part, index, shards_per_part)
            with (folder / file).open("wb") as out:
                writer = RecordWriter(out)
                for row in chosen:
                    writer.write(codec.encode(_example(table.loc[row], label, size_px, rng)))
            shards.append(
                ShardInfo(
                    file=file,
                    part=part,
                    examples=writer.examples,
                    bytes=writer.bytes,
                    sha256=writer.sha256,
                )
            )
    manifest = Manifest(
        name="toy",
        size=size_px,
        features=codec.features,
        label=label,
        parts=tuple(_part(table[table["part"] == part], part, label) for part in parts),
        shards=tuple(shards),
        plan_digest=hashlib.sha256(b"plan").hexdigest(),
        render_digest=hashlib.sha256(b"render").hexdigest(),
        spec={},
        failures={"truncated": rows} if failures_over_limit else {},
        failures_over_limit=failures_over_limit,
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.2, 0.2, 0.2),
        versions={},
    )
    write_rows(str(folder), table)
    write_tfds_metadata(str(folder), manifest)
    write_manifest(str(folder), manifest)
    return manifest


def toy_features(kind: LabelKind) -> tuple[Feature, ...]:
    """The features of a toy example."""
    targets = {
        "none": (),
        "multilabel": (Feature(name="target", dtype="float32", shape=(3,), role="target"),),
    }
    return (
        Feature(name="age_approx", dtype="float32", role="number"),
        Feature(name="fold", dtype="int64", role="fold"),
        Feature(name="height", dtype="int64", role="source"),
        Feature(name="image", dtype="bytes", role="image"),
        Feature(name="image_name", dtype="string", role="id"),
        Feature(name="part", dtype="string", role="part"),
        Feature(name="patient_id", dtype="string", role="group"),
        Feature(name="row", dtype="int64", role="row"),
        Feature(name="sex", dtype="string", role="category"),
        *targets.get(kind, (Feature(name="target", dtype="int64", role="target"),)),
        Feature(name="width", dtype="int64", role="source"),
    )


def toy_jpeg(label: Sequence[float], size_px: int, rng: np.random.Generator) -> bytes:
    """JPEG bytes of noise whose channel means follow `label`: 0 dark, 1 bright, -1 between."""
    means = np.where(np.asarray(label) < 0, 128, 80 + 96 * np.clip(label, 0, 1))
    pixels = rng.normal(means, 24, (size_px, size_px, 3)).clip(0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 90, "RGB", "444"))


def _table(
    rows: int, parts: Sequence[str], label: LabelInfo, unlabelled: Sequence[str], rng: Any
) -> pd.DataFrame:
    group = np.arange(rows) // ROWS_PER_GROUP
    part = np.array(parts)[group % len(parts)]
    table = pd.DataFrame(
        {
            "row": np.arange(rows),
            "id": [f"ISIC_{row:07d}" for row in range(rows)],
            "group": [f"IP_{number:05d}" for number in group],
            "part": part,
            "fold": [int(p.removeprefix("fold")) if p.startswith("fold") else -1 for p in part],
        }
    )
    is_known = ~np.isin(part, unlabelled)
    if label.kind == "multilabel":
        targets = np.where(is_known[:, None], rng.integers(0, 2, (rows, 3)), -1)
        table["target"] = list(targets.astype(np.float32))
    elif label.kind == "none":
        table["target"] = -1
    else:
        table["target"] = np.where(is_known, rng.integers(0, len(label.classes), rows), -1)
    table["sex"] = rng.choice(["female", "male", ""], rows)
    age = rng.integers(20, 90, rows).astype(np.float32)
    table["age_approx"] = np.where(rng.random(rows) < 0.1, np.float32(np.nan), age)
    return table


def _example(line: pd.Series, label: LabelInfo, size_px: int, rng: Any) -> dict[str, Any]:
    target = line["target"]
    if label.kind == "multilabel":
        shown = target
    else:
        shown = [-1.0] * 3 if target < 0 else [float(target == channel) for channel in range(3)]
    values = {
        "age_approx": line["age_approx"],
        "fold": line["fold"],
        "height": 2 * size_px,
        "image": toy_jpeg(shown, size_px, rng),
        "image_name": line["id"],
        "part": line["part"],
        "patient_id": line["group"],
        "row": line["row"],
        "sex": line["sex"],
        "width": 3 * size_px,
    }
    return values if label.kind == "none" else {**values, "target": target}


def _part(rows: pd.DataFrame, part: str, label: LabelInfo) -> PartInfo:
    if label.kind == "multilabel":
        counts = [sum(target[c] == 1 for target in rows["target"]) for c in range(3)]
    else:
        counts = [(rows["target"] == index).sum() for index in range(len(label.classes))]
    return PartInfo(
        part=part,
        fold=int(part.removeprefix("fold")) if part.startswith("fold") else -1,
        examples=len(rows),
        groups=rows["group"].nunique(),
        classes={name: int(n) for name, n in zip(label.classes, counts, strict=True)},
    )
