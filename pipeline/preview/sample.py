"""A few of a set's records, read back: source sizes, and thumbnails of each class.

Rows within a part lie in the order of a hash of their ids, so the first hundredth of every shard is
a fair sample, the same in every run, and the cheapest to read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.images.decode import open_source
from pipeline.images.jpeg import encode_jpeg
from pipeline.records.features import with_role
from pipeline.records.manifest import Manifest
from pipeline.records.tfrecord import pick_records
from pipeline.records.wire import read_example

_SIZES_READ = 500  # a share of them is within 5 points; each costs 45 µs
_THUMBNAIL_PX = 96
_QUALITY = 80
_MOST_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One record as a picture."""

    id: str
    jpeg: bytes
    width: int  # px
    height: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What was read back."""

    widths: npt.NDArray[np.int64]  # px, of the sources
    heights: npt.NDArray[np.int64]
    sheets: Mapping[str, Sequence[Thumbnail]]  # class → some of its images


def read_sample(
    folder: str, manifest: Manifest, rows: pd.DataFrame, classes: Mapping[str, Any], each: int
) -> Sample:
    """Reads some records of the set in `folder`; every feature may be absent but the image.

    `rows` are the plan's rows that were written; `classes` gives a bool [N] over them a class,
    `each` the thumbnails of one.
    """
    shards, positions = rows["shard"].to_numpy(), rows["position"].to_numpy()
    # As far into a short shard as into a long one, so that parts count by their size.
    depth = (positions + 0.5) / np.bincount(shards)[shards]
    order = np.lexsort([shards, depth])
    places = _places(rows)
    chosen = {name: order[np.asarray(is_in)[order]][:each] for name, is_in in classes.items()}
    measured = set(order[:_SIZES_READ].tolist())
    wanted = np.unique(np.concatenate([order[:_SIZES_READ], *chosen.values()]))
    pictured = set(np.concatenate([np.empty(0, np.int64), *chosen.values()]).tolist())
    image = with_role(manifest.features, "image")[0].name
    ids = rows["id"].to_numpy()
    sizes, thumbnails = [], {}
    for shard in np.unique(shards[wanted]):
        here = {int(places[index]): index for index in wanted[shards[wanted] == shard]}
        with storage.open_read(storage.join(folder, manifest.shards[shard].file)) as file:
            for place, data in pick_records(file, here.keys()):
                wire = read_example(data)
                index = here[place]
                if index in measured:
                    sizes.append((wire["width"][1][0], wire["height"][1][0]))
                if index in pictured:
                    thumbnails[index] = _thumbnail(ids[index], wire[image][1][0])
    widths, heights = np.array(sizes, np.int64).reshape(-1, 2).T
    return Sample(
        widths=widths,
        heights=heights,
        sheets={name: [thumbnails[i] for i in chosen[name]] for name in chosen},
    )


def _places(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """int64 [N]: each row's place among the records of its shard; rows that failed have none."""
    order = np.lexsort([rows["position"], rows["shard"]])
    shards = rows["shard"].to_numpy()[order]
    starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]])
    places = np.empty(len(rows), np.int64)
    places[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    return places


def _thumbnail(name: str, data: bytes) -> Thumbnail:
    source = open_source(data, _MOST_PIXELS)
    scale = _THUMBNAIL_PX / max(source.width, source.height)
    eighths = 4 if source.is_plain_jpeg and scale < 0.5 else 8
    pixels = source.decode(eighths).pixels
    width, height = (max(1, round(min(scale, 1) * side)) for side in (source.width, source.height))
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    jpeg = encode_jpeg(np.asarray(small, np.uint8), _QUALITY)
    return Thumbnail(id=str(name), jpeg=jpeg, width=width, height=height)
