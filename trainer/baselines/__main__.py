r"""Trains what a network has to beat, on the same folds, and writes the same predictions files.

    python -m trainer.baselines --records out/64 --run runs/baselines
    python -m trainer.baselines --records out/64 --run runs/baselines --models logistic \
        --features pixels,pixels+metadata --class_weights none,balanced

Logistic regression and linear SVMs on small pixels, colour histograms and metadata: every model
with every set of features and every class weight, each a run folder `RUN/NAME` that
`trainer.ensemble` and `trainer.compare` take, then a table of all. A set of 64 px serves: pixels
are made smaller still. Folds of an earlier call of the same settings on the same records are kept;
a folder of others is refused. Starts no TensorFlow. Exit codes as of `trainer.task`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any, get_args

from pipeline import storage
from pipeline.command_line import Parser, names, run
from pipeline.errors import SettingsError
from pipeline.records.manifest import Manifest, read_rows
from pipeline.settings import nearest
from pipeline.stream.records import open_records
from trainer.baselines.features import KINDS, available_kinds, check_kinds, read_pictures
from trainer.baselines.fold_run import Baseline, Outcome, run_baseline
from trainer.baselines.linear import ClassWeight, LinearKind
from trainer.baselines.table import baseline_table
from trainer.config import DataConfig
from trainer.folds import check_examples, choose_folds, fold_parts
from trainer.intervals import DRAWS
from trainer.run_folder import CONFIG_NAME, refuse_another_run

MODELS: tuple[LinearKind, ...] = get_args(LinearKind)
CLASS_WEIGHTS: tuple[ClassWeight, ...] = get_args(ClassWeight)


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.baselines", __doc__)
    parser.add_argument("--records", required=True, help="a record set, such as out/64")
    parser.add_argument("--run", required=True, help="the folder to write a run NAME/ each into")
    parser.add_argument(
        "--models", type=names, default=MODELS, help=f"among {', '.join(MODELS)} (default both)"
    )
    parser.add_argument(
        "--features",
        type=names,
        metavar="SETS",
        help=f"sets of {', '.join(KINDS)}, joined by + and parted by commas (default: each "
        "alone, each of the pictures' with metadata, and all, as far as the records give them)",
    )
    parser.add_argument(
        "--class_weights",
        type=names,
        default=CLASS_WEIGHTS,
        help=f"among {', '.join(CLASS_WEIGHTS)} (default both)",
    )
    parser.add_argument(
        "--pixels_px", type=int, default=16, metavar="PX", help="side of small pixels (default 16)"
    )
    parser.add_argument("--folds", default="all", help="all (default), or such as 0,1")
    parser.add_argument(
        "--merge_folds", type=int, metavar="COUNT", help="the records' folds as so many"
    )
    parser.add_argument("--train", type=names, default=(), help="given parts, such as train")
    parser.add_argument("--validation", type=names, default=(), help="and such as val")
    parser.add_argument(
        "--seed", type=int, default=0, help="of inner folds and of the bootstrap (default 0)"
    )
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"of the bootstrap (default {DRAWS})"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="train again, also over baselines of other settings or other records",
    )
    parser.add_argument(
        "--allow_failures", action="store_true", help="take records that lack too many rows"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and trains."""
    flags = build_parser().parse(argv)

    def job() -> int:
        outcomes = run_baselines(flags)
        print(baseline_table(outcomes, draws=flags.draws, seed=flags.seed))
        return 0

    return run("baselines", job)


def run_baselines(flags: argparse.Namespace) -> dict[str, Outcome]:
    """Trains every baseline that the flags name, each in its folder; their outcomes by name."""
    if flags.draws < 1:
        raise SettingsError(f"--draws must be 1 or more, got {flags.draws}")
    records = open_records(flags.records, allow_failures=flags.allow_failures)
    manifest = records.manifest
    if manifest.label.kind == "none":
        raise SettingsError(f"{flags.records}: the records must have a label, got none")
    baselines = asked_baselines(flags, manifest)
    kinds = {kind for baseline in baselines for kind in baseline.features}
    check_kinds(kinds, manifest, flags.pixels_px)
    data = _data_config(flags)
    folds_of_run = fold_parts(manifest, data)
    folds = choose_folds(folds_of_run, flags.folds)
    check_examples(manifest, folds, batch_size=1)
    if not flags.fresh:
        _refuse_other_runs(flags.run, baselines, manifest)

    rows = read_rows(flags.records)
    parts = {part for fold in folds for part in (*fold.train, *fold.validation)}
    pictures = read_pictures(records, rows, parts, kinds, flags.pixels_px)
    outcomes = {}
    for number, baseline in enumerate(baselines, start=1):
        print(f"{number} of {len(baselines)}: {baseline.name}", flush=True)
        folder = storage.join(flags.run, baseline.name)
        outcomes[baseline.name] = run_baseline(
            folder, baseline, manifest, rows, pictures, folds, folds_of_run
        )
    return outcomes


def asked_baselines(flags: argparse.Namespace, manifest: Manifest) -> tuple[Baseline, ...]:
    """Every model with every set of features and every class weight."""
    there = available_kinds(manifest)
    sets = [_feature_set(text) for text in flags.features or _default_sets(there)]
    for model in flags.models:
        _check_name("--models", model, MODELS)
    for weight in flags.class_weights:
        _check_name("--class_weights", weight, CLASS_WEIGHTS)
    if flags.pixels_px < 1:
        raise SettingsError(f"--pixels_px must be 1 or more, got {flags.pixels_px}")
    return tuple(
        Baseline(
            model=model,
            features=features,
            class_weight=weight,
            pixels_px=flags.pixels_px,
            seed=flags.seed,
            folds=flags.merge_folds,
            train=flags.train,
            validation=flags.validation,
        )
        for features, model, weight in itertools.product(
            dict.fromkeys(sets), dict.fromkeys(flags.models), dict.fromkeys(flags.class_weights)
        )
    )


def _refuse_other_runs(folder: str, baselines: Sequence[Baseline], manifest: Manifest) -> None:
    """Raises SettingsError where something else than these baselines was trained."""
    if storage.exists(storage.join(folder, CONFIG_NAME)):
        raise SettingsError(
            f"--run must be a folder for runs of baselines, got {folder}, which is a run; give "
            "another"
        )
    for baseline in baselines:
        refuse_another_run(storage.join(folder, baseline.name), baseline, manifest)


def _default_sets(there: Sequence[str]) -> list[str]:
    together = ["pixels+metadata", "histogram+metadata", "pixels+histogram+metadata"]
    return [text for text in [*KINDS, *together] if {*text.split("+")} <= {*there}]


def _feature_set(text: str) -> tuple[Any, ...]:
    """`metadata+pixels` -> ("pixels", "metadata"): one name, whatever the order it is asked in."""
    asked = [name.strip() for name in text.split("+")]
    for name in asked:
        _check_name("--features", name, KINDS)
    return tuple(kind for kind in KINDS if kind in asked)


def _check_name(flag: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise SettingsError(f"{flag}: unknown name {name!r}; {nearest(name, known)}")


def _data_config(flags: argparse.Namespace) -> DataConfig:
    try:
        return DataConfig(folds=flags.merge_folds, train=flags.train, validation=flags.validation)
    except ValueError as error:
        raise SettingsError(f"--merge_folds, --train, --validation: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
