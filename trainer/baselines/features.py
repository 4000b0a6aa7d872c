"""Records to vectors: small pixels, colour histograms and metadata, a row each.

Pictures are read and decoded once for all baselines (`read_pictures`); what is fitted, metadata and
scales, is fitted for each fold on its training rows alone (`fold_features`). Without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.records.example import ExampleCodec
from pipeline.records.features import table_column, the_feature, with_role
from pipeline.records.manifest import Manifest
from pipeline.records.tfrecord import read_records
from pipeline.stream.hosts import ONE_HOST
from pipeline.stream.records import Portion, Records, find_stretches
from pipeline.stream.render import decode, shrink

FeatureKind = Literal["pixels", "histogram", "metadata"]
KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)

Picture = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float32]

HISTOGRAM_PX = 64  # colours need no more, and counting them takes as long at any size of records
HISTOGRAM_CELLS = 8  # a channel


def small_pixels(picture: Picture, pixels_px: int) -> Matrix:
    """uint8 [H, W, 3] -> float32 [3 · pixels_px²] in [0, 1]: the central square, area means."""
    small: Matrix = shrink(picture, pixels_px).reshape(-1).astype(np.float32)
    return small / np.float32(255)


def color_histogram(picture: Picture) -> Matrix:
    """uint8 [H, W, 3] -> float32 [512] in [0, 1]: roots of the shares of 8 x 8 x 8 cells of RGB.

    Of the central square. Roots, for a linear model on shares sees little but the largest ones;
    their inner product is the Bhattacharyya coefficient of two histograms.
    """
    square = shrink(picture, min(HISTOGRAM_PX, *picture.shape[:2]))
    cell = square.reshape(-1, 3).astype(np.intp) * HISTOGRAM_CELLS // 256
    flat = cell @ np.array([HISTOGRAM_CELLS**2, HISTOGRAM_CELLS, 1])
    counts = np.bincount(flat, minlength=HISTOGRAM_CELLS**3)
    return np.sqrt(counts / len(flat)).astype(np.float32)


def check_kinds(kinds: Collection[FeatureKind], manifest: Manifest, pixels_px: int) -> None:
    """Raises SettingsError for features that the records cannot give."""
    where = f"records {manifest.name!r}"
    missing = sorted({*kinds} - {*available_kinds(manifest)})
    if missing:
        column = "metadata columns" if missing[0] == "metadata" else "one image an example"
        raise SettingsError(
            f"{where}: there must be {column} for the feature {missing[0]!r}, got none; "
            f"leave it out of --features"
        )
    if "pixels" in kinds and manifest.size is not None and pixels_px > manifest.size:
        raise SettingsError(
            f"{where}: --pixels_px must be {manifest.size} or less (their size), got {pixels_px}"
        )


def available_kinds(manifest: Manifest) -> tuple[FeatureKind, ...]:
    """What the records can give."""
    images = with_role(manifest.features, "image")
    has_image = len(images) == 1 and images[0].shape == ()
    has_metadata = any(feature.role in ("category", "number") for feature in manifest.features)
    return tuple(kind for kind in KINDS if (has_metadata if kind == "metadata" else has_image))


def read_pictures(
    records: Records,
    rows: pd.DataFrame,
    parts: Collection[str],
    kinds: Collection[FeatureKind],
    pixels_px: int,
) -> dict[FeatureKind, Matrix]:
    """float32 [N, D] for each kind made of pictures, a line of `rows` (`read_rows`) each.

    Rows outside `parts` stay zero. Raises RecordError for a damaged shard, DataError for a record
    whose image cannot be decoded.
    """
    extract: dict[FeatureKind, Callable[[Picture], Matrix]] = {
        "pixels": lambda picture: small_pixels(picture, pixels_px),
        "histogram": color_histogram,
    }
    asked = {kind: extract[kind] for kind in KINDS if kind in kinds and kind in extract}
    if not asked:
        return {}
    manifest = records.manifest
    image = the_feature(manifest.features, "image").name
    row_features = with_role(manifest.features, "row")
    codec = ExampleCodec(manifest.features)
    place_of = pd.Series(np.arange(len(rows)), index=rows["row"])
    blank = np.zeros((max(HISTOGRAM_PX, pixels_px),) * 2 + (3,), np.uint8)
    matrices = {
        kind: np.zeros((len(rows), len(make(blank))), np.float32) for kind, make in asked.items()
    }
    for stretch in find_stretches([Portion(records=records, parts=tuple(parts))], ONE_HOST):
        with storage.open_read(stretch.path) as file:
            for number, (offset, data) in enumerate(read_records(file, stretch.path)):
                try:
                    values = codec.decode(data)
                    picture = decode(values[image], None, is_swapped=manifest.is_red_blue_swapped)
                except ValueError as error:  # an ImageError is one
                    raise DataError(
                        f"{stretch.path}: record {number} at byte {offset}: {error}"
                    ) from error
                row = values[row_features[0].name] if row_features else stretch.first_row + number
                for kind, make in asked.items():
                    matrices[kind][place_of[row]] = make(picture)
    return matrices


def fold_features(
    kinds: Collection[FeatureKind],
    pictures: Mapping[FeatureKind, Matrix],
    rows: pd.DataFrame,
    manifest: Manifest,
    is_train: npt.NDArray[np.bool_],
) -> Matrix:
    """float32 [N, D]: the kinds side by side, each column of mean 0 and deviation 1 in training.

    Means, deviations and the metadata's vocabulary are those of the training rows. A column that is
    constant there is 0 for them; it has no weight in a model that is fitted to them.
    """
    parts = []
    for kind in KINDS:
        if kind in kinds:
            is_metadata = kind == "metadata"
            values = _metadata(rows, manifest, is_train) if is_metadata else pictures[kind]
            known = values[is_train].astype(np.float64)
            deviation = known.std(axis=0)
            deviation[deviation < 1e-9] = 1
            parts.append(((values - known.mean(axis=0)) / deviation).astype(np.float32))
    return np.concatenate(parts, axis=1)


def _metadata(rows: pd.DataFrame, manifest: Manifest, is_train: npt.NDArray[np.bool_]) -> Matrix:
    columns = {
        role: [table_column(feature.name) for feature in with_role(manifest.features, role)]
        for role in ("category", "number")
    }
    encoder = MetadataEncoder.fit(
        rows[is_train], categorical=columns["category"], numeric=columns["number"]
    )
    return encoder.encode(rows)
