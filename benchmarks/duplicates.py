"""How many copies of real images are found, how many pairs are wrong, and how long 100,000 take.

    python -m benchmarks.duplicates --data FOLDER

Six kinds of copy are made of every image of three sets and held against the originals. What the
search depends on was chosen on ham224 and looked at on cxr150; on siim2020 nothing was chosen but
the third step of the fit. Then 100,000
hashes in 8 turns are paired with 100,000 in 11 views: uniform ones, of which no two are near, and
those of blends of two real images each, with the black corners and dark middles of the real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from pipeline.duplicates.banding import HashIndex
from pipeline.duplicates.hashing import TURNS, VIEWS, Hashes, hash_turns, hash_views
from pipeline.duplicates.pairing import find_across, find_within
from pipeline.duplicates.thumbnail import Thumbnails, draw_thumbnail

DISTANCE = 7  # the default of find_duplicates
MAX_PIXELS = 100_000_000
SETS = {"ham224": "ham224/jpeg", "cxr150": "cxr150/train", "siim2020": "siim2020/jpeg512"}
QUERIES = 256  # images at once

Pixels = np.ndarray  # uint8 [H, W, 3] BGR
Copy = Callable[[Pixels, np.random.Generator], tuple[Pixels, int]]  # and the JPEG's quality


def recompressed(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """At quality 60 to 90."""
    return image, int(rng.integers(60, 91))


def resized(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """To a half or to three quarters: 512 to 256 or 384 px."""
    size = round(image.shape[0] * rng.choice([0.5, 0.75]))
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), 85


def turned(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """One of the seven turns and mirrorings that change something."""
    number = int(rng.integers(1, 8))
    image = np.rot90(image, number % 4)
    return np.ascontiguousarray(image[:, ::-1] if number >= 4 else image), 85


def cropped(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """3 to 8 % of both sides cut off, anywhere around."""
    share = 1 - rng.uniform(0.03, 0.08)
    height, width = (round(side * share) for side in image.shape[:2])
    top = int(rng.integers(0, image.shape[0] - height + 1))
    left = int(rng.integers(0, image.shape[1] - width + 1))
    return image[top : top + height, left : left + width], 85


def relit(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """10 % brighter or darker, clipped."""
    return (image * rng.choice([0.9, 1.1])).clip(0, 255).astype(np.uint8), 85


def all_at_once(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, int]:
    """Cropped, resized, turned and relit, at quality 75."""
    for change in (cropped, resized, turned, relit):
        image, _ = change(image, rng)
    return image, 75


COPIES: dict[str, Copy] = {
    copy.__name__: copy for copy in (recompressed, resized, turned, cropped, relit, all_at_once)
}


def copy_of(path: Path, kind: str, seed: int) -> bytes:
    """The JPEG of a copy of an image file, of one of `COPIES`."""
    image, quality = COPIES[kind](cv2.imread(str(path)), np.random.default_rng(seed))
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def main() -> int:
    """Measures, prints, returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real images")
    parser.add_argument("--images", type=int, default=1200, help="of each set, at most")
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument(
        "--blends", type=int, default=20_000, help="searched to the end, with pixels"
    )
    flags = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        copies = {}
        for name, folder in SETS.items():
            paths = sorted((flags.data / folder).rglob("*.jp*g"))
            chosen = sorted(rng.permutation(len(paths))[: flags.images])
            copies[name] = find_copies([paths[number] for number in chosen], pool)
            for kind, (recall, precision) in copies[name].items():
                print(f"{name:10}{kind:14}recall {recall:.4f}  precision {precision:.4f}")
        uniform = rng.integers(0, 2**64, (flags.hashes, len(TURNS) + len(VIEWS)), dtype=np.uint64)
        times = {
            "uniform_s": time_pairing(uniform[:, : len(TURNS)], uniform[:, len(TURNS) :], pool)
        }
        blends = blend(draw_all(sorted((flags.data / SETS["ham224"]).glob("*.jpg"))), flags.hashes)
        times["blends_s"] = time_pairing(hash_turns(blends), hash_views(blends), pool)
        start = time.perf_counter()
        find_within(blends[: flags.blends], DISTANCE, pool)
        times["blends_with_pixels_s"] = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for name, seconds in times.items():
        print(f"{name:24}{seconds:.1f}")
    print(f"{'peak_gb':24}{peak_gb:.2f}")
    print(json.dumps({"copies": copies, **times, "peak_gb": peak_gb}))
    return 0


def find_copies(paths: list[Path], pool: Executor) -> dict[str, tuple[float, float]]:
    """Kind → recall and precision of the pairs of an original and a copy.

    Images of the set that are one picture by themselves count as right with each other's copies.
    """
    originals = draw_all(paths)
    same = {(place, place) for place in range(len(paths))}
    for one, other, _ in find_within(originals, DISTANCE, pool).tolist():
        same |= {(one, other), (other, one)}
    figures = {}
    for kind in COPIES:
        data = pool.map(lambda item, kind=kind: copy_of(item[1], kind, item[0]), enumerate(paths))
        thumbnails = np.array([draw_thumbnail(image, MAX_PIXELS) for image in data])
        found = {(a, b) for a, b, _ in find_across(originals, thumbnails, DISTANCE, pool).tolist()}
        recall = len({a for a, b in found if (a, b) in same}) / len(paths)
        figures[kind] = (recall, len(found & same) / len(found))
    return figures


def draw_all(paths: list[Path]) -> Thumbnails:
    """uint8 [N, 48, 48]."""
    return np.array([draw_thumbnail(path.read_bytes(), MAX_PIXELS) for path in paths])


def time_pairing(turns: Hashes, views: Hashes, pool: Executor) -> float:
    """Seconds to index uint64 [N, 11] and to look up [N, 8] of the same images."""
    start = time.perf_counter()
    index = HashIndex(views.ravel())

    def look_up(first: int) -> int:
        queries = turns[first : first + QUERIES].ravel()
        return sum(len(close.query) for close in index.near(queries, DISTANCE))

    sum(pool.map(look_up, range(0, len(turns), QUERIES)))
    return time.perf_counter() - start


def blend(images: Thumbnails, count: int) -> Thumbnails:
    """uint8 [count, 48, 48]: each a weighted mean of two images, one of them mirrored."""
    rng = np.random.default_rng(1)
    blends = np.empty((count, *images.shape[1:]), np.uint8)
    for place in range(count):
        one, other = images[rng.integers(len(images), size=2)]
        weight = rng.uniform(0.3, 0.7)
        blends[place] = weight * one + (1 - weight) * other[:, ::-1]
    return blends


if __name__ == "__main__":
    sys.exit(main())
