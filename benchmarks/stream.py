"""How fast training batches come, against the decoder alone and other ways to stream.

    python benchmarks/stream.py --data FOLDER [--peer grain=PYTHON …] [--rounds N]

Makes records of 256 px from the images of FOLDER/siim2020, repeated to `--rows` rows, then times in
turn, on all cores, in images/s of an epoch that follows one that is not timed:

- `decode_jpeg` alone within tf.data, its JPEGs in memory;
- the stream without ops; its host half (decode, crop, flip); the full augmentation, which is flips,
  rotation ±180°, zoom ±12 %, shift ±8 px, brightness, contrast and saturation;
- the same with decoded images held in memory, and how long decoding them all took;
- what one interpreter could do on a host of any number of cores: the full augmentation with every
  call that releases the interpreter's lock replaced by nothing;
- peers (`benchmarks/stream_peers.py` lists them); PYTHON is one that has what the peer needs.

Prints medians over the rounds, and of the ratios within a round, then one line of JSON.
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf

from pipeline.stream import render
from pipeline.stream.augment import chain
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.batches import Position, TrainingStream
from pipeline.stream.records import Portion, Records, open_records
from pipeline.stream.source import StreamedExamples

BATCH = 32
SIZE_PX = 256
FLIPS = [{"op": "flip_left_right"}, {"op": "flip_up_down"}]
FULL = [
    *FLIPS,
    {"op": "rotation", "max_angle_deg": 180},
    {"op": "zoom", "max_fraction": 0.12},
    {"op": "shift", "max_px": 8},
    {"op": "brightness", "max_delta": 0.1},
    {"op": "contrast", "factor": [0.8, 1.2]},
    {"op": "saturation", "factor": [0.8, 1.2]},
]
CROP = {"op": "same_size_crop"}
CROPPED_PX = 224  # out of 256
PARTS = [f"fold{number}" for number in range(5)]


def main() -> int:
    """Measures, prints, returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds siim2020/")
    parser.add_argument("--rows", type=int, default=8288)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    flags = parser.parse_args()
    rates: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = make_records(flags.data.resolve(), folder, flags.rows)
        jpegs = read_jpegs(records)
        (folder / "jpegs").mkdir()
        for place, jpeg in enumerate(jpegs):
            (folder / "jpegs" / f"{place:06d}.jpg").write_bytes(jpeg)
        for _ in range(flags.rounds):
            for what, rate in OURS.items():
                rates[what].append(rate(records, jpegs))
            for peer in flags.peer:
                what, _, python = peer.partition("=")
                rates[what].append(peer_rate(what, python, folder / "jpegs"))
    report(rates)
    return 0


def make_records(data: Path, folder: Path, rows: int) -> Records:
    """The images of siim2020/, each row a copy with an id of its own, as records of 5 folds."""
    source = data / "siim2020"
    with (source / "train_jpeg512.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "patient", "target"])
        for row in range(rows):
            copy, line = row // len(lines), lines[row % len(lines)]
            patient = f"{copy}_{line['patient_id']}"
            writer.writerow([f"{row:06d}", line["image_name"], patient, line["target"]])
    command = [sys.executable, "-m", "beam_jobs.make_records", "--csv", str(folder / "table.csv")]
    command += ["--images", str(source / "jpeg512"), "--image_path", "{image}.jpg", "--id", "id"]
    command += ["--label", "target", "--group", "patient", "--sizes", str(SIZE_PX)]
    subprocess.run([*command, "--output", str(folder / "out")], check=True, capture_output=True)
    return open_records(str(folder / "out" / str(SIZE_PX)))


def read_jpegs(records: Records) -> list[bytes]:
    """All images of the records, as they are stored."""
    keys = StreamedExamples([Portion(records=records, parts=tuple(PARTS))], None).keys()
    return [key["image"] for key in keys.as_numpy_iterator()]


def epoch_rate(batches: Callable[[int], tf.data.Dataset]) -> float:
    """Images/s of one epoch, after a first that is not timed."""
    for _ in batches(0):
        pass
    start = time.perf_counter()
    count = sum(BATCH for _ in batches(1))
    return count / (time.perf_counter() - start)


def stream_rate(
    cache: str, tables: list[dict[str, Any]]
) -> Callable[[Records, list[bytes]], float]:
    """Of a `TrainingStream` with ops."""

    def rate(records: Records, _: list[bytes]) -> float:
        crops = any(table["op"] == CROP["op"] for table in tables)
        stream = TrainingStream(
            records,
            PARTS,
            batch_size=BATCH,
            seed=1,
            ops=build_ops(tables),
            cache=cache,
            image_size_px=CROPPED_PX if crops else SIZE_PX,
        )
        return epoch_rate(lambda epoch: stream.epoch(Position(epoch=epoch)))

    return rate


def decode_rate(_: Records, jpegs: list[bytes]) -> float:
    """Of `decode_jpeg` in tf.data, with as many threads as it wants."""
    dataset = tf.data.Dataset.from_tensor_slices(jpegs)
    dataset = dataset.map(
        lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE"),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return epoch_rate(lambda epoch: dataset)


def first_epoch_rate(records: Records, _: list[bytes]) -> float:
    """Of making a stream that holds its images, and its first epoch."""
    start = time.perf_counter()
    stream = TrainingStream(
        records, PARTS, batch_size=BATCH, seed=1, image_size_px=SIZE_PX, cache="memory"
    )
    count = sum(BATCH for _ in stream.epoch())
    return count / (time.perf_counter() - start)


def locked_rate(_: Records, jpegs: list[bytes]) -> float:
    """Images/s of the interpreter alone: all that runs under its lock, on one thread."""
    image = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    full = chain.Chain(build_ops(FULL), size_px=SIZE_PX)
    keys, out = np.arange(len(jpegs)), np.zeros((render.CHUNK, SIZE_PX, SIZE_PX, 3), np.uint8)
    nothing = mock.patch.multiple(cv2, warpAffine=_nothing, cvtColor=_nothing, transform=_nothing)
    decoder = mock.patch.object(simplejpeg, "decode_jpeg", return_value=image)
    with nothing, decoder, mock.patch.object(cv2, "mean", return_value=(1.0, 1.0, 1.0, 0.0)):
        start = time.perf_counter()
        for first in range(0, len(jpegs) - render.CHUNK, render.CHUNK):
            part = slice(first, first + render.CHUNK)
            images = [render.decode(jpeg, SIZE_PX) for jpeg in jpegs[part]]
            full.apply(images, range(len(FULL)), keys[part], out)
        return len(jpegs) / (time.perf_counter() - start)


def peer_rate(name: str, python: str, folder: Path) -> float:
    """What `benchmarks/stream_peers.py` prints."""
    script = Path(__file__).with_name("stream_peers.py")
    command = [python, str(script), name, str(folder), str(BATCH)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout.split()[-1])


def report(rates: dict[str, list[float]]) -> None:
    """A table of medians and of ratios within a round, and the same as JSON."""
    against = ["decode alone", "first epoch, held", *(name for name in rates if name not in OURS)]
    print(f"{'images/s':<28}{'median':>9}" + "".join(f"  over {name}" for name in against))
    result: dict[str, dict[str, float]] = {}
    for name, rate in rates.items():
        ratios = {
            other: round(
                statistics.median(a / b for a, b in zip(rate, rates[other], strict=True)), 2
            )
            for other in against
        }
        result[name] = {"images_s": round(statistics.median(rate)), **ratios}
        cells = "".join(f"{ratio:>{len(other) + 7}.2f}" for other, ratio in ratios.items())
        print(f"{name:<28}{result[name]['images_s']:>9,}{cells}")
    print(json.dumps(result))


def _nothing(image: np.ndarray, *_: object, **__: object) -> np.ndarray:
    return image


OURS: dict[str, Callable[[Records, list[bytes]], float]] = {
    "decode alone": decode_rate,
    "streamed, no ops": stream_rate("none", []),
    "streamed, crop and flips": stream_rate("none", [CROP, *FLIPS]),
    "streamed, full": stream_rate("none", FULL),
    "first epoch, held": first_epoch_rate,
    "held, no ops": stream_rate("memory", []),
    "held, full": stream_rate("memory", FULL),
    "interpreter alone, full": locked_rate,
}


if __name__ == "__main__":
    sys.exit(main())
