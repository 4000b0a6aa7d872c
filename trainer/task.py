r"""Trains the folds of a run and writes their out-of-fold predictions.

    python -m trainer.task --records out/256 --run runs/image --config configs/demo.toml --folds 0,1
    python -m trainer.task --records out/256 --run runs/fused --config configs/demo.toml \
        --folds 0,1 --set model.fusion=concat

    python -m trainer.task --records out/256 --config configs/demo.toml --overfit 64

The same command again goes on where the last one ended, at its newest checkpoint. Exit codes: 0
done, 1 the data or the training failed, 2 the command line or the recipe is at fault, which is told
at once: before TensorFlow is imported; 143 and 130 stopped by SIGTERM or Ctrl-C, after the compiled
call under way and with all of it saved (a second one ends at once).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.command_line import Parser, add_set_flag, run
from pipeline.dataset.parts import HOLDOUT
from pipeline.records.manifest import read_rows
from pipeline.stream.extras import refuse_leaks, with_extra_rows
from pipeline.stream.records import open_records
from trainer.folds import FoldParts, check_choosable, has_auc
from trainer.hypertune import report_trial
from trainer.recipe import Recipe, read_recipe
from trainer.report import fold_figures, fold_table
from trainer.run_folder import (
    alone_in_folds,
    changed_since,
    clear_fold,
    finished_fold,
    fold_digests,
    gather_folds,
    refuse_another_run,
    start_run,
)
from trainer.running.stopping import Stopping, run_stoppable
from trainer.stages.source import find_source
from trainer.strategy import add_run_flags, make_strategy

if TYPE_CHECKING:
    from trainer.running.setup import Run


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.task", __doc__)
    parser.add_argument("--records", required=True, help="a record set, such as out/256")
    parser.add_argument(
        "--run",
        default=os.environ.get("AIP_MODEL_DIR"),
        help="the folder to write into (default: AIP_MODEL_DIR, which Vertex AI sets)",
    )
    parser.add_argument("--config", help="the recipe, a TOML file (default: every default)")
    add_set_flag(parser, "a setting on top of the recipe, such as train.epochs=3; may be repeated")
    parser.add_argument("--folds", default="all", help="all (default), or such as 0,1")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="train again, also over a run of another recipe or other records",
    )
    parser.add_argument(
        "--overfit",
        type=int,
        metavar="IMAGES",
        help="can the network learn? Fits so many images of the first of --folds, writes nothing, "
        "and exits 1 unless it knows them",
    )
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and trains."""
    parser = build_parser()
    flags = parser.parse(argv)
    if flags.run is None and flags.overfit is None:
        parser.error("--run must be given: the folder to write into")
    is_kept = flags.overfit is None
    return run(
        "task", lambda: run_stoppable("task", lambda stop: _job(flags, stop), is_kept=is_kept)
    )


def train(flags: argparse.Namespace, stopping: Stopping) -> int:
    """Trains the folds that are asked for and not complete; then reports on every complete one."""
    recipe = _read_recipe(flags)
    manifest, config = recipe.records.manifest, recipe.config
    if config.train.keep == "best":
        check_choosable(manifest, recipe.chosen)
    waiting = recipe.chosen if flags.fresh else _unfinished(flags.run, recipe)
    for fold in waiting:
        find_source(config, manifest, fold, flags.run)
    if waiting:
        with alone_in_folds(flags.run, [fold.number for fold in waiting]):
            _train_folds(flags, recipe, waiting, stopping)
    digests = {fold.number: fold_digests(config, manifest, fold) for fold in recipe.folds}
    predictions = gather_folds(flags.run, digests)
    figures = fold_figures(predictions)
    print(fold_table(figures))
    worth = {"auc": figures.pooled, "average_precision": figures.pooled_precision}
    report_trial(worth, step=len(figures.by_fold))
    return 0


def check_learning(flags: argparse.Namespace, stopping: Stopping) -> int:
    """`--overfit`: whether the network can learn a few images by heart."""
    recipe = _read_recipe(flags)
    started = _start(flags, recipe, stopping)
    from trainer.overfit import overfit

    return overfit(started, recipe.chosen[0], images=flags.overfit)


def _read_recipe(flags: argparse.Namespace) -> Recipe:
    recipe = read_recipe(
        open_records(flags.records, allow_failures=flags.allow_failures),
        flags.config,
        flags.overrides,
        folds=flags.folds,
        allow_failures=flags.allow_failures,
        replicas=flags.replicas,
    )
    refuse_leaks(recipe.records, recipe.extras, recipe.config.extra, _unseen(recipe))
    return recipe


def _unseen(recipe: Recipe) -> list[tuple[str, ...]]:
    """The parts that must stay unseen: of each fold those that validate, and the holdout."""
    validations = [fold.validation for fold in recipe.chosen]
    touched = {part for fold in recipe.folds for part in (*fold.train, *fold.validation)}
    is_held_out = HOLDOUT in recipe.records.manifest.part_names and HOLDOUT not in touched
    return [*validations, (HOLDOUT,)] if is_held_out else validations


def _unfinished(run_folder: str, recipe: Recipe) -> tuple[FoldParts, ...]:
    """The folds that are asked for and not complete."""
    manifest = recipe.records.manifest
    refuse_another_run(run_folder, recipe.config, manifest)
    waiting = []
    for fold in recipe.chosen:
        digests = fold_digests(recipe.config, manifest, fold)
        if finished_fold(run_folder, fold.number, digests):
            print(f"fold {fold.number} is complete: skipped (--fresh trains it again)", flush=True)
            continue
        if changed := changed_since(run_folder, fold.number, digests):
            print(f"fold {fold.number}: {changed} since it was trained: trained again")
        waiting.append(fold)
    return tuple(waiting)


def _train_folds(
    flags: argparse.Namespace, recipe: Recipe, folds: Sequence[FoldParts], stopping: Stopping
) -> None:
    started = _start(flags, recipe, stopping)
    from trainer.fold_run import train_fold

    if flags.fresh:
        for fold in folds:
            clear_fold(flags.run, fold.number)
    manifest = recipe.records.manifest
    start_run(flags.run, recipe.config, manifest)
    for fold in folds:
        if not has_auc(manifest, fold.validation):
            print(f"fold {fold.number}: AUC is n/a, for its validation rows are of one class")
        train_fold(started, fold)


def _start(flags: argparse.Namespace, recipe: Recipe, stopping: Stopping) -> Run:
    """Starts TensorFlow, after all that can be refused without it.

    It notes CPU features, and a missing GPU as an error, on stderr; what is an error for us it
    raises. Each fold has a loop of its own, which it takes for a function traced in vain.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainer.running.setup import Run

    return Run(
        folder=flags.run or "",
        config=recipe.config,
        records=recipe.records,
        extras=recipe.extras,
        rows=with_extra_rows(read_rows(flags.records), recipe.records, recipe.extras),
        ops=recipe.ops,
        strategy=make_strategy(flags.tpu, flags.replicas, recipe.config.train.batch_size),
        stopping=stopping,
    )


def _job(flags: argparse.Namespace, stopping: Stopping) -> int:
    if flags.overfit is not None:
        return check_learning(flags, stopping)
    return train(flags, stopping)


if __name__ == "__main__":
    sys.exit(main())
