"""A finished record set as the stream reads it, and damage told by file, record and byte.

Without TensorFlow, so that a trainer refuses a set before it pays for that import. `open_records`
is the one way in; the stream's parts take the `Records` that it gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from pipeline import storage
from pipeline.records.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    ShardInfo,
    read_manifest,
)
from pipeline.records.tfrecord import RecordError, read_records
from pipeline.stream.hosts import Hosts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """One folder of shards with its manifest."""

    folder: str
    manifest: Manifest

    def paths_of(self, parts: Collection[str]) -> tuple[str, ...]:
        """The shard files of some parts, in the manifest's order.

        Raises RecordError for one that is missing or has another length than the manifest says:
        seen before training starts, not in the middle of an epoch.
        """
        paths = []
        sizes = storage.list_sizes(self.folder)
        for shard in self.manifest.shards_of(parts):
            path, size = self.path(shard), sizes.get(shard.file)
            if size != shard.bytes:
                got = "no such file" if size is None else f"{size}"
                raise RecordError(
                    f"{path}: length must be {shard.bytes} bytes as in the manifest, got {got}; "
                    "run make_records again with the same flags"
                )
            if shard.examples:
                paths.append(path)
        return tuple(paths)

    def path(self, shard: ShardInfo) -> str:
        """Where a shard lies."""
        return storage.join(self.folder, shard.file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portion:
    """Some parts of a record set, as one of the sets that a stream mixes.

    `first_row` is added to its rows, so that no two sets share a number.
    """

    records: Records
    parts: tuple[str, ...]
    first_row: int = 0
    weight: float = 1.0  # of each example in training

    @property
    def examples(self) -> int:
        """How many it holds."""
        return self.records.manifest.examples_in(self.parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some records of one shard, one after the other."""

    path: str
    portion: int  # which of the portions it is of
    first: int  # the place in the shard of its first record
    count: int
    is_whole: bool  # all records of the shard
    first_row: int  # the row of its first record, if records hold no `row`


def find_stretches(portions: Sequence[Portion], hosts: Hosts) -> tuple[Stretch, ...]:
    """What a host reads of some portions, in the manifests' order.

    Records without a row are numbered through the manifest's shards, as `pipeline.records.adopt`
    does. Raises RecordError as `Records.paths_of` does.
    """
    shards = []
    for number, portion in enumerate(portions):
        records, manifest = portion.records, portion.records.manifest
        there = set(records.paths_of(portion.parts))
        for shard, first_row in zip(manifest.shards, manifest.first_rows, strict=True):
            if (path := records.path(shard)) in there:
                shards.append((path, number, shard, first_row))
    shares = hosts.share([(shard.file, shard.examples) for _, _, shard, _ in shards])
    return tuple(
        Stretch(
            path=path,
            portion=number,
            first=share.start,
            count=len(share),
            is_whole=len(share) == shard.examples,
            first_row=first_row + share.start,
        )
        for (path, number, shard, first_row), share in zip(shards, shares, strict=True)
        if share
    )


def open_records(folder: str, *, allow_failures: bool = False) -> Records:
    """The record set in `folder` (`OUT/SIZE`).

    Raises ManifestError when it is missing or incomplete, or when more rows failed than its maker
    allowed, unless `allow_failures`.
    """
    manifest = read_manifest(folder)
    if manifest.failures_over_limit and not allow_failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in manifest.failures.items())
        raise ManifestError(
            f"{storage.join(folder, MANIFEST_NAME)}: failures must be within max_failures, got "
            f"{reasons}; mend the rows in failed.csv, or pass --allow_failures to do without them"
        )
    return Records(folder=folder, manifest=manifest)


def check_shards(records: Records, parts: Collection[str]) -> None:
    """Reads the shards of some parts through.

    Raises RecordError at the first damage, naming file, record and byte.
    """
    for path in records.paths_of(parts):
        with storage.open_read(path) as file:
            for _ in read_records(file, path):
                pass
