"""The pictures beside predictions, read from a record set by row.

Called by `trainer.report.__main__` for the few that the page shows. Starts no TensorFlow.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.errors import DataError
from pipeline.images.decode import open_source
from pipeline.images.jpeg import encode_jpeg
from pipeline.records.features import with_role
from pipeline.records.manifest import Manifest
from pipeline.records.tfrecord import read_records
from pipeline.records.wire import read_example

PICTURE_PX = 144
_QUALITY = 80
_MOST_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A record's image, as JPEG bytes both."""

    small: bytes  # of at most PICTURE_PX a side
    stored: bytes


def read_pictures(folder: str, manifest: Manifest, rows: pd.DataFrame) -> dict[str, Picture]:
    """By id; none where the records hold no image.

    `rows` are those wanted of `read_rows`. Reads the shards of their parts until all are found.

    Raises:
      RecordError: a shard is damaged.
      DataError: an image cannot be decoded.
    """
    images = with_role(manifest.features, "image")
    if len(images) != 1:
        return {}
    row_features = with_role(manifest.features, "row")
    id_of, parts = dict(zip(rows["row"], rows["id"], strict=True)), set(rows["part"])
    found: dict[str, Picture] = {}
    for shard, first_row in zip(manifest.shards, manifest.first_rows, strict=True):
        if shard.part not in parts or len(found) == len(id_of):
            continue
        path = storage.join(folder, shard.file)
        with storage.open_read(path) as file:
            for place, (_, data) in enumerate(read_records(file, path)):
                wire = read_example(data)
                row = first_row + place
                if row_features:
                    row = int(wire[row_features[0].record_key][1][0])
                if row in id_of:
                    where = f"{path}: record {place}"
                    jpeg = wire[images[0].record_key][1][0]
                    small = _thumbnail(jpeg, manifest.is_red_blue_swapped, where)
                    found[id_of[row]] = Picture(small=small, stored=jpeg)
    return found


def _thumbnail(data: bytes, is_swapped: bool, where: str) -> bytes:
    try:
        pixels = open_source(data, _MOST_PIXELS).decode(8).pixels
    except ValueError as error:  # an ImageError is one
        raise DataError(f"{where}: {error}") from error
    height, width = pixels.shape[:2]
    scale = min(PICTURE_PX / max(height, width), 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if is_swapped and small.ndim == 3:
        small = np.ascontiguousarray(small[..., ::-1])
    return encode_jpeg(small, _QUALITY)
