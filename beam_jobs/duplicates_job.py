"""What `find_duplicates` does: thumbnails by Beam, then pairs, a table and a summary."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import cv2
import numpy as np

from beam_jobs.engine import Numbers, choose_engine
from beam_jobs.job import Job, Outcome
from beam_jobs.progress import FinishedShards, Progress, Tally
from pipeline import storage
from pipeline.duplicates.banding import MAX_DISTANCE
from pipeline.duplicates.pairing import find_across, find_within
from pipeline.duplicates.source import Dataset, load_dataset, open_dataset, save_dataset
from pipeline.duplicates.table import keep_first, pairs_to_csv
from pipeline.duplicates.thumbnail import THUMBNAIL_PX, Thumbnails, draw_thumbnail
from pipeline.errors import DataError, SettingsError
from pipeline.images.image_error import ImageError
from pipeline.ordered import map_ordered
from pipeline.wording import counted

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
    paths = {"dataset": flags.dataset, "other": flags.other, "--output": flags.output}
    engine = choose_engine(flags, "find_duplicates", paths)
    datasets = [open_dataset(folder, stems=flags.stems) for folder in folders]
    with engine.scratch() as scratch:
        for place, dataset in enumerate(datasets):
            save_dataset(dataset, _dataset_path(scratch, place))
        job = FindDuplicates(
            folders=tuple(folders),
            scratch=scratch,
            threads=engine.threads,
            units=sum(len(dataset.sizes) for dataset in datasets),
            images=sum(sum(dataset.sizes) for dataset in datasets),
            distance=flags.distance,
            output=flags.output,
        )
        return engine.run(job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindDuplicates(Job):
    """Thumbnails by way of files, a file a unit, then the pairs among them."""

    folders: tuple[str, ...]
    scratch: str  # the thumbnails, and where the datasets' images are
    threads: int
    units: int
    images: int
    distance: int
    output: str
    name: str = "find_duplicates"

    def build(self, pipeline: beam.Pipeline) -> beam.PCollection:
        draw = DrawThumbnails(self.scratch, len(self.folders), self.threads)
        return pipeline | "units" >> Numbers(self.units) | "draw" >> beam.ParDo(draw)

    @contextlib.contextmanager
    def watch(self, *, in_one_process: bool) -> Iterator[None]:
        def failed_in(unit: int) -> int | None:
            try:
                return len(_read_pictures(self.scratch, unit).failed)
            except FileNotFoundError:
                return None

        datasets = _load_datasets(self.scratch, len(self.folders))
        finished = FinishedShards([n for dataset in datasets for n in dataset.sizes], failed_in)
        IMAGES_SEEN.reset()
        count = IMAGES_SEEN.count if in_one_process else finished.count
        with Progress(self.name, self.images, "images", "failed", count):
            yield

    def finish(self) -> Outcome:
        pictures = self._gather()
        first, other = pictures[0], pictures[-1]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            if len(pictures) == 1:
                found = find_within(first.thumbnails, self.distance, pool)
                found, sets = keep_first(found)
                verdict = (
                    f"{counted(len(found), 'pair')}, in {counted(sets, 'set')} of one picture each"
                )
            else:
                found = find_across(first.thumbnails, other.thumbnails, self.distance, pool)
                verdict = counted(len(found), "pair")
        storage.write_text(self.output, pairs_to_csv(found, first.ids, other.ids))
        reading = [
            describe_reading(folder, of_folder)
            for folder, of_folder in zip(self.folders, pictures, strict=True)
        ]
        return Outcome(code=0, text="\n".join([*reading, f"{verdict}: {self.output}"]))

    def _gather(self) -> list[Pictures]:
        """The pictures of each dataset in order of id; DataError where records are damaged."""
        units = _units(_load_datasets(self.scratch, len(self.folders)))
        parts = [_read_pictures(self.scratch, place) for place in range(len(units))]
        faults = [part.fault for part in parts if part.fault]
        if faults:
            raise DataError(faults[0])
        return [
            _join([part for part, (owner, _) in zip(parts, units, strict=True) if owner == number])
            for number in range(len(self.folders))
        ]


def describe_reading(folder: str, pictures: Pictures) -> str:
    """How many images were looked at, and which could not be."""
    lines = [f"{folder}: {counted(len(pictures.ids), 'image')}"]
    if pictures.failed:
        lines[0] += f", and {len(pictures.failed):,} that could not be read"
    lines += [f"      {name}: {reason}" for name, reason in pictures.failed[:_MOST_FAILED]]
    if len(pictures.failed) > _MOST_FAILED:
        lines.append(f"      and {len(pictures.failed) - _MOST_FAILED:,} more")
    return "\n".join(lines)


class DrawThumbnails(beam.DoFn):
    """Place among the units of all datasets → that place; what was drawn goes into `scratch`."""

    def __init__(self, scratch: str, datasets: int, threads: int) -> None:
        super().__init__()
        self._scratch, self._count, self._threads = scratch, datasets, threads
        self._drawn = beam.metrics.Metrics.counter("find_duplicates", "images_drawn")
        self._failed = beam.metrics.Metrics.counter("find_duplicates", "images_failed")

    def setup(self) -> None:
        """Once a worker: where the images are, and the threads that decode."""
        cv2.setNumThreads(1)
        self._datasets = _load_datasets(self._scratch, self._count)
        self._units = _units(self._datasets)
        self._pool = ThreadPoolExecutor(self._threads)

    def process(self, place: int) -> Iterator[int]:
        """Draws the images of one unit."""
        number, unit = self._units[place]
        pictures = self._draw(self._datasets[number], unit)
        self._drawn.inc(len(pictures.ids))
        self._failed.inc(len(pictures.failed))
        _write_pictures(self._scratch, place, pictures)
        yield place

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


def _units(datasets: Sequence[Dataset]) -> list[tuple[int, int]]:
    """Dataset and unit of each place."""
    return [
        (number, unit)
        for number, dataset in enumerate(datasets)
        for unit in range(len(dataset.sizes))
    ]


def _load_datasets(scratch: str, count: int) -> list[Dataset]:
    return [load_dataset(_dataset_path(scratch, place)) for place in range(count)]


def _dataset_path(scratch: str, place: int) -> str:
    return storage.join(scratch, f"dataset{place}.json")


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
