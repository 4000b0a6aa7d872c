"""Where the images of a dataset are: a record set, or a folder of image files.

Called by `beam_jobs.duplicates_job`: the launcher opens a dataset and saves where its images are,
workers load that and read its units.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Protocol

from pipeline import storage
from pipeline.dataset.sources.folders import list_folders
from pipeline.dataset.spec import FoldersSpec
from pipeline.errors import DataError
from pipeline.records.example import ExampleCodec
from pipeline.records.features import the_feature, with_role
from pipeline.records.manifest import MANIFEST_NAME, Manifest, read_manifest
from pipeline.records.tfrecord import read_records

_FILES_A_UNIT = 1024


class Dataset(Protocol):
    """Images in units, each the work of one Beam element."""

    @property
    def sizes(self) -> list[int]:
        """The number of images in each unit."""

    def read(self, unit: int) -> Iterator[tuple[str, bytes]]:
        """Id and file of each image; no bytes where a file is gone."""

    def whereabouts(self) -> dict[str, Any]:
        """What `load_dataset` makes the same of, in JSON's types."""


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """`OUT/SIZE` of `make_records`; a unit is a shard."""

    folder: str
    manifest: Manifest

    @property
    def sizes(self) -> list[int]:
        return [shard.examples for shard in self.manifest.shards]

    def whereabouts(self) -> dict[str, Any]:
        return {"records": self.folder}

    def read(self, unit: int) -> Iterator[tuple[str, bytes]]:
        file = self.manifest.shards[unit].file
        codec = ExampleCodec(self.manifest.features)
        image, name = (the_feature(codec.features, role).name for role in ("image", "id"))
        with storage.open_read(storage.join(self.folder, file)) as shard:
            for number, (_, data) in enumerate(read_records(shard, file)):
                try:
                    values = codec.decode(data)
                except ValueError as error:
                    raise DataError(f"{file}: record {number}: {error}") from error
                yield values[name], values[image]


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A tree of image files; a unit is some of them, in order of path."""

    folder: str
    paths: tuple[str, ...]  # under the folder
    ids: tuple[str, ...]

    @property
    def sizes(self) -> list[int]:
        count = len(self.paths)
        return [min(_FILES_A_UNIT, count - start) for start in range(0, count, _FILES_A_UNIT)]

    def whereabouts(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def read(self, unit: int) -> Iterator[tuple[str, bytes]]:
        some = slice(unit * _FILES_A_UNIT, (unit + 1) * _FILES_A_UNIT)
        for path, name in zip(self.paths[some], self.ids[some], strict=True):
            try:
                yield name, storage.read_bytes(storage.join(self.folder, path))
            except FileNotFoundError:
                yield name, b""


def open_dataset(folder: str, *, stems: bool) -> Dataset:
    """The record set in a folder, or else its tree of image files.

    An image file's id is its path under the folder, as `--from_folders` names it; with `stems`, its
    name without folder and suffix, as a column of a CSV has it. DataError for a folder that is
    neither, records without one image each, or a stem that two files have.
    """
    if storage.exists(storage.join(folder, MANIFEST_NAME)):
        manifest = read_manifest(folder)
        images = with_role(manifest.features, "image")
        if len(images) != 1 or images[0].shape:
            raise DataError(
                f"{folder}: records must hold one image each, got {len(images)} or a list"
            )
        return RecordSet(folder, manifest)
    table, _ = list_folders(FoldersSpec(root=folder))
    paths = tuple(table["file"])
    if not stems:
        return ImageFolder(folder, paths, paths)
    path_of: dict[str, str] = {}
    for path in paths:
        stem = PurePosixPath(path).stem
        if stem in path_of:
            raise DataError(
                f"{folder}: with --stems, file names must differ before their suffixes, got "
                f"{path_of[stem]} and {path}; leave out --stems, or look into one folder"
            )
        path_of[stem] = path
    return ImageFolder(folder, paths, tuple(path_of))


def save_dataset(dataset: Dataset, path: str) -> None:
    """Writes where the images are, for those who read them elsewhere."""
    storage.write_text(path, json.dumps(dataset.whereabouts()))


def load_dataset(path: str) -> Dataset:
    """The dataset that was saved. The files of a folder are those of then."""
    where = json.loads(storage.read_text(path))
    if "records" in where:
        return RecordSet(where["records"], read_manifest(where["records"]))
    return ImageFolder(where["folder"], tuple(where["paths"]), tuple(where["ids"]))
