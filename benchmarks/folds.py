"""Measures how even folds are and how long they take, beside published ones and scikit-learn's.

    python benchmarks/folds.py --data ../shared/data
    python benchmarks/folds.py --data ../shared/data --scale

The first compares 15 folds of the SIIM-ISIC 2020 table, on the rows that the published folds kept:
the fewest and the most that a fold has. The second also times up to a million rows, and prints the
largest distance of a count from its target.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.dataset.balance import BUCKETS, count_parts, imbalance
from pipeline.dataset.folds import assign_parts

FOLDS = 15
SEED = 42


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds siim2020/")
    parser.add_argument("--scale", action="store_true", help="also time up to a million rows")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prints one table, or two."""
    args = build_parser().parse_args(argv)
    compare(pd.read_csv(args.data / "siim2020" / "published_folds.csv"))
    if args.scale:
        measure_scale()
    return 0


def compare(table: pd.DataFrame) -> None:
    """Prints the fewest and the most that one of 15 folds has, for each way to make them."""
    table = table[table["tfrecord"] != -1]
    groups, labels = table["patient_id"].to_numpy(), table[["target"]].to_numpy()
    ways: dict[str, Callable[[], NDArray[np.integer]]] = {
        "foldstream": lambda: assign_parts(groups, labels, [1] * FOLDS, SEED),
        "published": lambda: table["tfrecord"].to_numpy(),
        "StratifiedGroupKFold": lambda: split_with_sklearn(groups, labels[:, 0]),
    }
    heads = ["melanomas", "images", "patients", *BUCKETS]
    print(f"{len(table):,} rows, {table['patient_id'].nunique():,} patients, {FOLDS} folds")
    print(f"{'':22}" + "".join(f"{head:>12}" for head in heads) + f"{'cost':>10}{'seconds':>9}")
    for name, make in ways.items():
        start = time.perf_counter()
        parts = make()
        seconds = time.perf_counter() - start
        counts = count_parts(groups, labels, parts, FOLDS)
        ranges = (f"{column.min()}-{column.max()}" for column in counts.columns.T)
        cells = "".join(f"{cell:>12}" for cell in ranges)
        cost = imbalance(counts, [1] * FOLDS)
        took = "" if name == "published" else f"{seconds:.2f}"
        print(f"{name:22}{cells}{cost:10.3f}{took:>9}")


def split_with_sklearn(groups: NDArray[np.object_], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Str [N], int [N] -> int64 [N], the fold whose validation set has the row."""
    parts = np.empty(len(groups), np.int64)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for fold, (_, rows) in enumerate(splitter.split(target, target, groups)):
        parts[rows] = fold
    return parts


def measure_scale() -> None:
    """Prints seconds, peak memory of the process so far, and how far counts are off."""
    heads = f"{'folds':>6}{'seconds':>9}{'peak GB':>9}{'images off by':>15}{'groups off by':>15}"
    print(f"\n{'':48}{heads}")
    for name, groups, labels in large_tables():
        for count in (5, 15):
            start = time.perf_counter()
            parts = assign_parts(groups, labels, [1] * count, SEED)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            columns = count_parts(groups, labels, parts, count).columns
            off = np.abs(columns - columns.sum(axis=0) / count).max(axis=0)
            images, in_groups = off[: labels.shape[1] + 1].max(), off[labels.shape[1] + 1 :].max()
            print(f"{name:48}{count:6}{seconds:9.2f}{peak:9.2f}{images:15.1f}{in_groups:15.1f}")


def large_tables() -> Iterator[tuple[str, NDArray[np.str_], NDArray[np.bool_]]]:
    """-> name, str [N] groups, bool [N, C] labels."""
    rng = np.random.default_rng(SEED)
    rare = rng.random((1_000_000, 1)) < 0.02
    patients = np.char.add("P", rng.integers(0, 200_000, 1_000_000).astype(str))
    yield "1,000,000 rows in 200,000 groups, 2 % positive", patients, rare
    images = np.char.add("P", np.arange(1_000_000).astype(str))
    yield "1,000,000 groups of one row, 2 % positive", images, rare
    patients = rng.integers(0, 30_000, 100_000)
    prevalence = np.geomspace(0.2, 0.002, 14) * rng.gamma(1, 1, 30_000)[patients, None]
    labels = rng.random((100_000, 14)) < prevalence
    yield "100,000 rows in 30,000 groups, 14 labels", np.char.add("P", patients.astype(str)), labels


if __name__ == "__main__":
    sys.exit(main())
