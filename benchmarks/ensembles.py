"""Measures the search of all subsets of an ensemble's members, beside a loop over scikit-learn.

    python benchmarks/ensembles.py
    python benchmarks/ensembles.py --members 12 --rows 11720 --positives 1113

Synthetic members of the SIIM-ISIC 2020 table's size: 33,126 rows, 584 positive, in five folds. One
search gives the AUC of every subset on all rows and, for the nested choice, without each fold. The
loop is timed on a few subsets, scaled up to all, and must agree to 1e-12. Process seconds are of
all threads together: on a busy machine they tell more than the wall's.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from pipeline.predictions import Predictions, make_predictions
from pipeline.records.label import LabelInfo
from trainer.ensemble.honest import Recipe, judge
from trainer.ensemble.scoring import Scorer, metric_named
from trainer.ensemble.subsets import figures_of_subsets

T = TypeVar("T")
FOLDS = 5
LABEL = LabelInfo(kind="binary", classes=("benign", "malignant"), positive=("malignant",))


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=15, help="of the ensemble (default 15)")
    parser.add_argument("--rows", type=int, default=33126, help="default 33126")
    parser.add_argument("--positives", type=int, default=584, help="default 584")
    parser.add_argument("--metric", default="auc", help="default auc")
    parser.add_argument("--loop", type=int, default=100, help="subsets of the loop (default 100)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prints what each way takes; 1 where they disagree."""
    args = build_parser().parse_args(argv)
    members = synthetic_members(args.members, args.rows, args.positives)
    probs = [member.probs for member in members]
    every_row = np.ones(args.rows, bool)
    cores, subsets = len(os.sched_getaffinity(0)), 2**args.members - 1
    print(f"{subsets:,} subsets of {args.members} x {args.rows:,} rows, {cores} cores")
    scorer = Scorer(one_fold(members[0]), every_row, metric_named(args.metric, "binary"))
    figures = timed("all subsets, all rows", lambda: figures_of_subsets(probs, scorer))
    recipe = Recipe(method="optimal", metric=args.metric)
    names = [f"member{place}" for place in range(args.members)]
    judged = timed(f"nested over {FOLDS} folds, whole", lambda: judge(members, names, recipe))
    print(f"on what chose it {judged.on_chosen:.4f}, nested {judged.pooled:.4f}")
    if args.metric != "auc":
        return 0
    chosen = np.random.default_rng(1).integers(1, subsets + 1, size=args.loop).tolist()
    target = members[0].targets
    start = time.process_time()
    loop = [roc_auc_score(target, subset_sum(probs, mask)) for mask in chosen]
    seconds = (time.process_time() - start) / args.loop * subsets
    apart = float(np.abs(figures[chosen, 0] - loop).max())
    print(f"{'roc_auc_score in a loop':32}{'':12}{seconds:10.1f} s process, scaled up")
    print(f"largest difference of {args.loop} subsets: {apart:.1e}")
    return int(apart > 1e-12)


def timed(what: str, job: Callable[[], T]) -> T:
    """Runs the job and prints its seconds."""
    wall, process = time.perf_counter(), time.process_time()
    result = job()
    wall, process = time.perf_counter() - wall, time.process_time() - process
    print(f"{what:32}{wall:8.1f} s  {process:10.1f} s process")
    return result


def synthetic_members(count: int, rows: int, positives: int) -> list[Predictions]:
    """Members that share most of what they know: AUC 0.85 to 0.9 each, in float32 as on disk."""
    rng = np.random.default_rng(0)
    target = np.zeros(rows, np.int64)
    target[rng.choice(rows, positives, replace=False)] = 1
    fold = np.arange(rows) % FOLDS
    keys = pd.DataFrame(
        {
            "row": np.arange(rows),
            "id": [f"image{row}" for row in range(rows)],
            "group": [f"patient{row}" for row in range(rows)],
            "part": [f"fold{of_row}" for of_row in fold],
            "fold": fold,
            "target": target,
        }
    )
    shared = 1.6 * target + rng.normal(size=rows)
    members = []
    for _ in range(count):
        logits = (shared + 0.5 * rng.normal(size=rows) - 4)[:, None]
        probs = 1 / (1 + np.exp(-logits))
        members.append(make_predictions(keys, logits, probs, LABEL, {}))
    return members


def one_fold(member: Predictions) -> Predictions:
    """The same rows in a single fold: nothing is nested."""
    return Predictions(frame=member.frame.assign(fold=0), label=member.label)


def subset_sum(probs: list[np.ndarray], mask: int) -> np.ndarray:
    """Float64 [N], added in the order of the members."""
    return sum(member[:, 0] for place, member in enumerate(probs) if mask >> place & 1)


if __name__ == "__main__":
    sys.exit(main())
