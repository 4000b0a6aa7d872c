"""A finished record set as the stream reads it, and damage told by file, record and byte.

Without TensorFlow, so that a trainer refuses a set before it pays for that import. `open_records`
is the one way in; the stream's parts take the `Records` that it gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from pipeline import storage
from pipeline.records.manifest import MANIFEST_NAME, Manifest, ManifestError, read_manifest
from pipeline.records.tfrecord import RecordError, read_records


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
        for shard in self.manifest.shards_of(parts):
            path = storage.join(self.folder, shard.file)
            size = storage.size_bytes(path) if storage.exists(path) else None
            if size != shard.bytes:
                got = "no such file" if size is None else f"{size}"
                raise RecordError(
                    f"{path}: length must be {shard.bytes} bytes as in the manifest, got {got}; "
                    "run make_records again with the same flags"
                )
            if shard.examples:
                paths.append(path)
        return tuple(paths)

    def first_rows(self, parts: Collection[str]) -> dict[str, int]:
        """The paths of `paths_of` → the row of each one's first record, if records hold no `row`.

        Rows are then numbered through the manifest's shards, as `pipeline.records.adopt` does.
        """
        by_path = {
            storage.join(self.folder, shard.file): first
            for shard, first in zip(self.manifest.shards, self.manifest.first_rows, strict=True)
        }
        return {path: by_path[path] for path in self.paths_of(parts)}


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
