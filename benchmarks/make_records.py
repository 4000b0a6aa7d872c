"""How fast records are made, against the decoder alone on the same files.

    python benchmarks/make_records.py --data FOLDER [--peer tfrecord=PYTHON …] [--together]

Takes the original JPEGs of FOLDER/uda1 (133 dermoscopy images, 540–2,304 px high), repeated to
`--rows` rows, to one size, on all cores. The job is timed as a user runs it, its start-up (a job of
ten rows) taken off. Beside it, in turn, simplejpeg alone decodes the same files with a thread a
core, at the scale that just covers the size. `--peer` times another way to do the same in the same
run (`benchmarks/record_peers.py` lists them); PYTHON is one that has what the peer needs.
`--together` times 256, 384 and 512 px in one pass against three; `--memory` gives peak memory of
the job at `--rows` and at ten times as many. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import csv
import itertools
import json
import os
import resource
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
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer_rows", type=int, default=1000)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--memory", action="store_true")
    flags = parser.parse_args()
    files = sorted((flags.data / "uda1" / "jpeg").resolve().glob("*.jpg"))
    repeated = list(itertools.islice(itertools.cycle(files), flags.rows))
    rates: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(flags.repeats):
        rates["decode alone"].append(flags.rows / time_decode(repeated, flags.size))
        startup = time_job(repeated[:STARTUP_ROWS], [flags.size])
        rates["make_records"].append(flags.rows / (time_job(repeated, [flags.size]) - startup))
        for peer in flags.peer:
            name, _, python = peer.partition("=")
            rates[name].append(peer_rate(name, python, repeated[: flags.peer_rows], flags.size))
    ours = rates["make_records"]
    result = {
        "rows": flags.rows,
        "size_px": flags.size,
        "cores": len(os.sched_getaffinity(0)),
        "ten_rows_s": round(startup, 2),
        "images_s": {name: round(statistics.median(rate), 1) for name, rate in rates.items()},
        "make_records_over": {
            name: round(statistics.median(a / b for a, b in zip(ours, rate, strict=True)), 3)
            for name, rate in rates.items()
        },
    }
    if flags.together:
        sizes = [256, 384, 512]
        apart = sum(time_job(repeated, [size]) for size in sizes)
        result["together_over_apart"] = round(time_job(repeated, sizes) / apart, 3)
    if flags.memory:
        many = list(itertools.islice(itertools.cycle(files), 10 * flags.rows))
        for some in (repeated, many):
            time_job(some, [flags.size])
            result[f"peak_mb_{len(some)}_rows"] = round(peak_mb())
    for name in rates:
        print(
            f"{name:20}{result['images_s'][name]:>8} images/s   "
            f"make_records is {result['make_records_over'][name]:.2f}×"
        )
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


def time_job(files: list[Path], sizes: list[int]) -> float:
    """Seconds of a whole `make_records` process over the files, a row each."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "train.csv")
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "file", "target"])
            writer.writerows([f"{n:06d}", path.name, n % 2] for n, path in enumerate(files))
        return time_process(
            [
                sys.executable, "-m", "beam_jobs.make_records", "--csv", str(table),
                "--images", str(files[0].parent), "--image_path", "{file}", "--id", "id",
                "--label", "target", "--sizes", ",".join(map(str, sizes)),
                "--output", f"{folder}/out",
            ]
        )  # fmt: skip


def peer_rate(name: str, python: str, files: list[Path], size: int) -> float:
    """Images/s of a peer, its start-up (ten files) taken off."""
    seconds = []
    for some in (files[:STARTUP_ROWS], files):
        with tempfile.TemporaryDirectory() as folder:
            listing = Path(folder, "files.txt")
            listing.write_text("\n".join(map(str, some)))
            script = Path(__file__).with_name("record_peers.py")
            seconds.append(
                time_process([python, str(script), name, str(listing), str(size), folder])
            )
    return (len(files) - STARTUP_ROWS) / (seconds[1] - seconds[0])


def peak_mb() -> float:
    """The largest resident memory of any process that this one has waited for; it only grows."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def time_process(command: list[str]) -> float:
    """Wall seconds of a command that must end well."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
