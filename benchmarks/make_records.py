"""How fast records are made, against the decoder alone on the same files.

    python benchmarks/make_records.py --data FOLDER

Takes the original JPEGs of FOLDER/uda1 (133 dermoscopy images, 540–2,304 px high), repeated to
`--rows` rows, to one size, on all cores. The job is timed as a user runs it, its start-up (a job of
ten rows) taken off. Beside it, in turn, simplejpeg alone decodes the same files with a thread a
core, at the scale that just covers the size. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import simplejpeg

STARTUP_ROWS = 10


def main() -> int:
    """Measures, prints, returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds uda1/")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    files = sorted((flags.data / "uda1" / "jpeg").glob("*.jpg"))
    repeated = list(itertools.islice(itertools.cycle(files), flags.rows))
    alone, job, startup = [], [], []
    for _ in range(flags.repeats):
        alone.append(flags.rows / time_decode(repeated, flags.size))
        startup.append(time_job(repeated[:STARTUP_ROWS], flags.size))
        job.append(flags.rows / (time_job(repeated, flags.size) - startup[-1]))
    ratios = [made / decoded for made, decoded in zip(job, alone, strict=True)]
    result = {
        "rows": flags.rows,
        "size_px": flags.size,
        "cores": len(os.sched_getaffinity(0)),
        "decode_alone_images_s": round(statistics.median(alone), 1),
        "make_records_images_s": round(statistics.median(job), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ten_rows_s": round(statistics.median(startup), 2),
    }
    for name, value in result.items():
        print(f"{name:24}{value}")
    print(json.dumps(result))
    return 0


def time_decode(files: list[Path], size: int) -> float:
    """Seconds to read and decode every file, a thread a core, at the scale that covers `size`."""

    def decode(path: Path) -> None:
        simplejpeg.decode_jpeg(path.read_bytes(), min_width=size, min_height=size)

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(decode, files):
            pass
    return time.perf_counter() - start


def time_job(files: list[Path], size: int) -> float:
    """Seconds of a whole `make_records` process over the files, a row each."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "train.csv")
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "file", "target"])
            writer.writerows([f"{n:06d}", path.name, n % 2] for n, path in enumerate(files))
        command = [
            sys.executable, "-m", "beam_jobs.make_records", "--csv", str(table),
            "--images", str(files[0].parent), "--image_path", "{file}", "--id", "id",
            "--label", "target", "--sizes", str(size), "--output", f"{folder}/out",
        ]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
