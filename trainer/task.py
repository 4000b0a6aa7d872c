r"""Trains the folds of a run and writes their out-of-fold predictions.

    python -m trainer.task --records out/256 --run runs/image --config configs/demo.toml --folds 0,1
    python -m trainer.task --records out/256 --run runs/fused --config configs/demo.toml \
        --folds 0,1 --set model.fusion=concat

The same command again trains only what is not complete yet. Exit codes: 0 done, 1 the data or the
training failed, 2 the command line or the recipe is at fault, which is told at once: before
TensorFlow is imported.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from pipeline.command_line import Parser, run
from pipeline.records.manifest import read_rows
from pipeline.stream.augment import Op, build_ops, check_geometry
from pipeline.stream.records import Records, open_records
from trainer.config import Config, load_config, resolve
from trainer.folds import FoldParts, check_examples, choose_folds, fold_parts
from trainer.report import fold_figures, fold_table
from trainer.run_folder import (
    finished_fold,
    fold_digests,
    gather_folds,
    has_older_shards,
    refuse_another_run,
    start_run,
)
from trainer.strategy import check_replicas, make_strategy


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.task", __doc__)
    parser.add_argument("--records", required=True, help="a record set, such as out/256")
    parser.add_argument("--run", required=True, help="the folder to write into")
    parser.add_argument("--config", help="the recipe, a TOML file (default: every default)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="a setting on top of the recipe, such as train.epochs=3; may be repeated",
    )
    parser.add_argument("--folds", default="all", help="all (default), or such as 0,1")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="train again, also over a run of another recipe or other records",
    )
    parser.add_argument(
        "--allow_failures", action="store_true", help="take records that lack too many rows"
    )
    devices = parser.add_mutually_exclusive_group()
    devices.add_argument("--tpu", help="a TPU's name; local on a TPU VM")
    devices.add_argument("--replicas", type=int, help="split the CPU into so many devices")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and trains."""
    flags = build_parser().parse(argv)
    return run("task", lambda: train(flags))


def train(flags: argparse.Namespace) -> int:
    """Trains the folds that are asked for and not complete; then reports on every complete one."""
    records = open_records(flags.records, allow_failures=flags.allow_failures)
    config = resolve(load_config(flags.config, flags.overrides), records.manifest)
    folds = fold_parts(records.manifest, config.data)
    chosen = choose_folds(folds, flags.folds)
    check_examples(records.manifest, chosen, config.train.batch_size)
    if flags.replicas is not None:
        check_replicas(flags.replicas, config.train.batch_size)
    ops = build_ops(config.augment)
    if not flags.fresh:
        refuse_another_run(flags.run, config, records.manifest)
    digests = {fold.number: fold_digests(config, records.manifest, fold) for fold in folds}
    waiting = []
    for fold in chosen:
        name, of_fold = f"fold {fold.number}", digests[fold.number]
        if not flags.fresh and finished_fold(flags.run, fold.number, of_fold):
            print(f"{name} is complete: skipped (--fresh trains it again)", flush=True)
            continue
        if not flags.fresh and has_older_shards(flags.run, fold.number, of_fold):
            print(f"{name}: the records' shards have changed since it was trained: trained again")
        waiting.append(fold)
    if waiting:
        _train_folds(flags, records, config, ops, waiting)
    predictions = gather_folds(flags.run, digests)
    print(fold_table(fold_figures(predictions)))
    return 0


def _train_folds(
    flags: argparse.Namespace,
    records: Records,
    config: Config,
    ops: tuple[Op, ...],
    folds: Sequence[FoldParts],
) -> None:
    # TensorFlow starts here, after all that can be refused without it. It notes CPU features, and a
    # missing GPU as an error, on stderr; what is an error for us it raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Each fold has a loop of its own, which TensorFlow takes for a function traced in vain.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainer.fold_run import Run, train_fold

    shared = Run(
        folder=flags.run,
        config=config,
        records=records,
        rows=read_rows(flags.records),
        ops=ops,
        strategy=make_strategy(flags.tpu, flags.replicas, config.train.batch_size),
    )
    check_geometry(ops)  # after the strategy, for it starts TensorFlow's devices
    start_run(flags.run, config, records.manifest)
    for fold in folds:
        train_fold(shared, fold)


if __name__ == "__main__":
    sys.exit(main())
