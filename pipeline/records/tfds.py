"""The two files that make a record set load in TensorFlow Datasets, written without importing it.

`tfds.builder_from_directory(OUT/SIZE)` reads `dataset_info.json` (a `DatasetInfo` proto as JSON:
splits and their shards) and `features.json` (a `Feature` proto as JSON: how an example is read).
`beam_jobs.make_records` names its shards by `shard_file` and calls `write_tfds_metadata` before it
commits the manifest. Checked against tensorflow_datasets 4.9.10:
https://github.com/tensorflow/datasets/tree/v4.9.10/tensorflow_datasets/core/proto
"""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline import storage
from pipeline.records.features import Feature, with_role
from pipeline.records.manifest import Manifest

VERSION = "1.0.0"
_PYTHON_CLASSES = "tensorflow_datasets.core.features"
_PART = re.compile(r"[\w-]+", re.ASCII)


def tfds_name(name: str) -> str:
    """A dataset's name as TFDS allows it: lower-case letters, digits and `_`, a letter first."""
    safe = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return safe if safe[:1].isalpha() else f"records_{safe}".rstrip("_")


def shard_file(name: str, part: str, index: int, count: int) -> str:
    """The file of shard `index` (from 0) of `count` of a part: `NAME-PART.tfrecord-00000-of-00005`.

    ValueError for a part that cannot be a TFDS split.
    """
    if not _PART.fullmatch(part) or part == "all":
        raise ValueError(
            f"part must be of letters, digits, _ and -, and not 'all', got {part!r}; rename it"
        )
    return f"{tfds_name(name)}-{part}.tfrecord-{index:05d}-of-{count:05d}"


def write_tfds_metadata(folder: str, manifest: Manifest) -> None:
    """Writes `dataset_info.json` and `features.json` beside the shards of a complete record set."""
    for name, table in (
        ("dataset_info.json", dataset_info(manifest)),
        ("features.json", features_table(manifest)),
    ):
        storage.write_text(storage.join(folder, name), json.dumps(table, indent=1) + "\n")


def dataset_info(manifest: Manifest) -> dict[str, Any]:
    """The `DatasetInfo` proto as JSON (64-bit integers are text there): one split a part."""
    splits = []
    for part in manifest.part_names:
        shards = manifest.shards_of([part])
        for index, shard in enumerate(shards):
            wanted = shard_file(manifest.name, part, index, len(shards))
            if shard.file != wanted:
                raise ValueError(
                    f"manifest: file of shard {index} of {part} must be {wanted}, got {shard.file}"
                )
        if shards:
            splits.append(
                {
                    "name": part,
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    "numBytes": str(sum(shard.bytes for shard in shards)),
                    "shardLengths": [str(shard.examples) for shard in shards],
                }
            )
    info: dict[str, Any] = {
        "name": tfds_name(manifest.name),
        "version": VERSION,
        "description": f"{manifest.name}: splits are the parts of manifest.json",
        "fileFormat": "tfrecord",
        "splits": splits,
    }
    pair = [*with_role(manifest.features, "image"), *with_role(manifest.features, "target")]
    if len(pair) == 2:  # for `as_supervised=True`
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": f.name} for f in pair]}}
    return info


def features_table(manifest: Manifest) -> dict[str, Any]:
    """The `Feature` proto as JSON: a FeaturesDict of the manifest's features.

    JPEG bytes become `Image`, text and other bytes `Text` (TFDS has no type for bare bytes),
    numbers `Scalar` or `Tensor`, a list of images or texts a `Sequence` of these.
    """
    size = manifest.size
    fields = {feature.name: _feature(feature, size) for feature in manifest.features}
    return _connector("features_dict.FeaturesDict", "featuresDict", {"features": fields})


def _feature(feature: Feature, size: int | None) -> dict[str, Any]:
    if feature.dtype in ("int64", "float32"):
        connector = "tensor_feature.Tensor" if feature.shape else "scalar.Scalar"
        shape = _shape(feature.shape)
        return _connector(
            connector, "tensor", {"shape": shape, "dtype": feature.dtype, "encoding": "none"}
        )
    if feature.role == "image":
        shape = _shape((size, size, 3))
        content = {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}
        one = _connector("image_feature.Image", "image", content)
    else:
        one = _connector("text_feature.Text", "text", {})
    if not feature.shape:
        return one
    length = "-1" if feature.shape[0] is None else str(feature.shape[0])
    return _connector("sequence_feature.Sequence", "sequence", {"feature": one, "length": length})


def _connector(python_class: str, field: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": f"{_PYTHON_CLASSES}.{python_class}", field: content}


def _shape(shape: tuple[int | None, ...]) -> dict[str, Any]:
    return {"dimensions": ["-1" if length is None else str(length) for length in shape]}
