"""What `find_duplicates` does: thumbnails by Beam, pairs on the launcher, a table and a summary."""

from __future__ import annotations

import argparse
import dataclasses
import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import cv2
import numpy as np

from beam_jobs.local import Workers, choose_workers, run_local
from beam_jobs.progress import FinishedShards, Progress, Tally
from pipeline import storage
from pipeline.duplicates.banding import MAX_DISTANCE
from pipeline.duplicates.pairing import find_across, find_within
from pipeline.duplicates.source import Dataset, open_dataset
from pipeline.duplicates.table import keep_first, pairs_to_csv
from pipeline.duplicates.thumbnail import THUMBNAIL_PX, Thumbnails, draw_thumbnail
from pipeline.errors import DataError, SettingsError
from pipeline.images.image_error import ImageError
from pipeline.ordered import map_ordered

_MAX_PIXELS = 100_000_000
_MOST_FAILED = 20  # named
IMAGES_SEEN = Tally()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """The images of a dataset or of a unit of it that could be read, and those that could not."""

    ids: list[str]
    thumbnails: Thumbnails
    failed: list[tuple[str, str]]  # id and reason
    fault: str = ""  # why the unit's records could not be read to their end


def find_duplicates(flags: argparse.Namespace) -> int:
    """The job that `beam_jobs.find_duplicates` describes; its exit code."""
    if not 0 <= flags.distance <= MAX_DISTANCE:
        raise SettingsError(f"--distance must be in 0-{MAX_DISTANCE}, got {flags.distance}")
    folders = [folder for folder in (flags.dataset, flags.other) if folder is not None]
    datasets = [open_dataset(folder, stems=flags.stems) for folder in folders]
    workers = choose_workers(flags.workers)
    pictures = draw_thumbnails(datasets, workers)
    first, other = pictures[0], pictures[-1]
    with ThreadPoolExecutor(workers.processes * workers.threads) as pool:
        if len(pictures) == 1:
            found = find_within(first.thumbnails, flags.distance, pool)
            found, sets = keep_first(found)
            verdict = f"{len(found):,} pairs, in {sets:,} sets of one picture each"
        else:
            found = find_across(first.thumbnails, other.thumbnails, flags.distance, pool)
            verdict = f"{len(found):,} pairs"
    storage.write_text(flags.output, pairs_to_csv(found, first.ids, other.ids))
    for folder, dataset in zip(folders, pictures, strict=True):
        print(describe_reading(folder, dataset))
    print(f"{verdict}: {flags.output}")
    return 0


def describe_reading(folder: str, pictures: Pictures) -> str:
    """How many images were looked at, and which could not be."""
    lines = [f"{folder}: {len(pictures.ids):,} images"]
    if pictures.failed:
        lines[0] += f", and {len(pictures.failed):,} that could not be read"
    lines += [f"      {name}: {reason}" for name, reason in pictures.failed[:_MOST_FAILED]]
    if len(pictures.failed) > _MOST_FAILED:
        lines.append(f"      and {len(pictures.failed) - _MOST_FAILED:,} more")
    return "\n".join(lines)


def draw_thumbnails(datasets: Sequence[Dataset], workers: Workers) -> list[Pictures]:
    """The pictures of each dataset in order of id; DataError where records are damaged."""
    units = [
        (number, unit)
        for number, dataset in enumerate(datasets)
        for unit in range(len(dataset.sizes))
    ]
    with tempfile.TemporaryDirectory() as scratch:

        def build(pipeline: beam.Pipeline) -> None:
            _ = (
                pipeline
                | "units" >> beam.Create(range(len(units)), reshuffle=True)  # int
                | "draw" >> beam.ParDo(DrawThumbnails(datasets, units, scratch, workers.threads))
            )

        def failed_in(unit: int) -> int | None:
            try:
                return len(_read_pictures(scratch, unit).failed)
            except FileNotFoundError:
                return None

        sizes = [datasets[number].sizes[unit] for number, unit in units]
        IMAGES_SEEN.reset()
        finished = FinishedShards(sizes, failed_in)
        count = IMAGES_SEEN.count if workers.processes == 1 else finished.count
        with Progress("find_duplicates", sum(sizes), "images", "failed", count):
            run_local(build, workers)
        parts = [_read_pictures(scratch, unit) for unit in range(len(units))]
    faults = [part.fault for part in parts if part.fault]
    if faults:
        raise DataError(faults[0])
    return [
        _join([part for part, (owner, _) in zip(parts, units, strict=True) if owner == number])
        for number in range(len(datasets))
    ]


class DrawThumbnails(beam.DoFn):
    """Place in `units` → nothing; what was drawn is written into the folder `scratch`."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        units: Sequence[tuple[int, int]],
        scratch: str,
        threads: int,
    ) -> None:
        super().__init__()
        self._datasets, self._units, self._scratch = datasets, units, scratch
        self._threads = threads
        self._drawn = beam.metrics.Metrics.counter("find_duplicates", "images_drawn")
        self._failed = beam.metrics.Metrics.counter("find_duplicates", "images_failed")

    def setup(self) -> None:
        """Once a worker: the threads that decode."""
        cv2.setNumThreads(1)
        self._pool = ThreadPoolExecutor(self._threads)

    def process(self, place: int) -> None:
        """Draws the images of one unit."""
        number, unit = self._units[place]
        pictures = self._draw(self._datasets[number], unit)
        self._drawn.inc(len(pictures.ids))
        self._failed.inc(len(pictures.failed))
        _write_pictures(self._scratch, place, pictures)

    def teardown(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def _draw(self, dataset: Dataset, unit: int) -> Pictures:
        ids, thumbnails, failed, fault = [], [], [], ""
        try:
            for name, drawn in map_ordered(self._pool, _draw_one, dataset.read(unit)):
                if isinstance(drawn, ImageError):
                    failed.append((name, drawn.reason))
                else:
                    ids.append(name)
                    thumbnails.append(drawn)
                IMAGES_SEEN.add(failed=isinstance(drawn, ImageError))
        except DataError as error:  # Beam would wrap it in its own errors
            fault = str(error)
        empty = np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
        drawn_all = np.stack(thumbnails) if thumbnails else empty
        return Pictures(ids=ids, thumbnails=drawn_all, failed=failed, fault=fault)


def _draw_one(image: tuple[str, bytes]) -> tuple[str, np.ndarray | ImageError]:
    name, data = image
    try:
        return name, draw_thumbnail(data, _MAX_PIXELS)
    except ImageError as error:
        return name, error


def _join(parts: Sequence[Pictures]) -> Pictures:
    """All units of a dataset as one, in order of id."""
    ids = np.array([name for part in parts for name in part.ids], dtype=object)
    order = np.argsort(ids, kind="stable")
    return Pictures(
        ids=ids[order].tolist(),
        thumbnails=np.concatenate([part.thumbnails for part in parts])[order],
        failed=sorted(failure for part in parts for failure in part.failed),
    )


def _write_pictures(scratch: str, place: int, pictures: Pictures) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.array(pictures.ids, dtype=str),
        thumbnails=pictures.thumbnails,
        failed=np.array(pictures.failed, dtype=str).reshape(-1, 2),
        fault=np.array(pictures.fault),
    )
    storage.write_bytes(_path(scratch, place), buffer.getvalue())


def _read_pictures(scratch: str, place: int) -> Pictures:
    with np.load(io.BytesIO(storage.read_bytes(_path(scratch, place)))) as arrays:
        return Pictures(
            ids=arrays["ids"].tolist(),
            thumbnails=arrays["thumbnails"],
            failed=[(name, reason) for name, reason in arrays["failed"].tolist()],
            fault=str(arrays["fault"]),
        )


def _path(scratch: str, place: int) -> str:
    return storage.join(scratch, f"{place}.npz")
