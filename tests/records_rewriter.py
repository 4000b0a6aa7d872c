"""Toy record sets changed in place: other features, other values, whole and with a new manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.records.manifest import Manifest, read_manifest, write_manifest
from pipeline.records.tfrecord import RecordWriter, read_records

SHA256 = Feature(name="sha256", dtype="string", role="source")


def rewrite(
    folder: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda example: example,
    *,
    add: Sequence[Feature] = (),
    leave_out: Sequence[str] = (),
    **manifest: Any,
) -> Manifest:
    """Writes every shard anew: `change` makes each example's new values of the old ones."""
    old = read_manifest(str(folder))
    kept = tuple(feature for feature in old.features if feature.name not in leave_out)
    reader, codec = ExampleCodec(old.features), ExampleCodec((*kept, *add))
    shards = []
    for shard in old.shards:
        path = folder / shard.file
        with path.open("rb") as file:
            examples = [reader.decode(data) for _, data in read_records(file, str(path))]
        with path.open("wb") as file:
            writer = RecordWriter(file)
            for example in examples:
                values = change(example)
                writer.write(codec.encode({f.name: values[f.name] for f in codec.features}))
        shards.append(dataclasses.replace(shard, bytes=writer.bytes, sha256=writer.sha256))
    new = dataclasses.replace(old, features=codec.features, shards=tuple(shards), **manifest)
    write_manifest(str(folder), new)
    return new


def with_digests(folder: Path, first: int = 0) -> Manifest:
    """Adds a `sha256` of each source: of row r the number `first + r`, in 64 characters."""
    return rewrite(
        folder,
        lambda example: {**example, "sha256": f"{first + example['row']:064x}"},
        add=[SHA256],
    )
