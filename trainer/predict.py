r"""Predicts rows or new images with the folds of a run, in as many views as you like.

    python -m trainer.predict --run runs/image --records out/256 --views flips
    python -m trainer.predict --run runs/image --records out/256 --part holdout --views 11 \
        --submission image.csv
    python -m trainer.predict --run runs/image --run runs/fused --ensemble best.json \
        --records out/256 --images new/jpeg --csv new/test.csv --output new/scores.parquet

`--part oof` (the default) asks of each fold what it has validated, another part of every fold that
has not trained on it. With `--images`, records say how images are prepared. Views: 1 is the plain
image, another number so many random ones by the recipe's own ops; flips (8), crops9, crops16,
crops25, crops36 (from larger records), scales4flips4. Writes RUN/predictions-PART-VIEWS.parquet, or
--output; training's own file is never touched. The same command again goes on after the last fold
that was whole. Exit codes: 0 done, 1 the data is at fault, 2 the command line is, 3 done but more
images failed than --max_failures allows, 143 and 130 stopped by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import get_args

from pipeline.command_line import Parser, names, run
from pipeline.errors import SettingsError
from trainer.ensemble.submission import COLUMNS
from trainer.prediction.assign import OUT_OF_FOLD
from trainer.prediction.average import Average
from trainer.prediction.images import Images
from trainer.prediction.request import Request
from trainer.prediction.run import predict
from trainer.running.stopping import run_stoppable
from trainer.strategy import add_run_flags


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.predict", __doc__)
    add = parser.add_argument
    add("--run", action="append", dest="runs", help="a run folder of trainer.task; several: a mean")
    add(
        "--ensemble",
        help="how trainer.ensemble combines its members (.json); --run may be left out",
    )
    add("--records", required=True, help="a record set, such as out/256")
    add("--part", help="oof (default), or a part such as holdout or test")
    add("--folds", default="all", help="all that are complete (default), or 0,1")
    add(
        "--views",
        default="1",
        help="a number, flips, crops9 … crops36 or scales4flips4 (default 1)",
    )
    add(
        "--average",
        choices=get_args(Average),
        default="prob",
        help="what the mean over views and folds is of (default prob)",
    )
    add("--keep_views", action="store_true", help="a column a view as well")
    add("--output", help="the file to write (.parquet)")
    add("--submission", help="a CSV to write, of ids and scores")
    add("--submission_columns", type=names, help="its columns (default image_name,target)")
    group = parser.add_argument_group("images without records of their own")
    group.add_argument("--images", help="their folder")
    group.add_argument("--csv", help="their table, with the columns of the records' spec")
    group.add_argument(
        "--max_failures",
        type=float,
        help="the share of them that may fail before the command exits 3 (default 0.001)",
    )
    group = parser.add_argument_group("how")
    group.add_argument("--batch_size", type=int, help="images at once (default: the recipe's)")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="in which the models compute (default float32)",
    )
    add_run_flags(group)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and predicts."""
    parser = build_parser()
    flags = parser.parse(argv)
    if not flags.runs and not flags.ensemble:
        default = os.environ.get("AIP_MODEL_DIR")  # which Vertex AI sets
        if default is None:
            parser.error("--run must be given: the folder of a run (or --ensemble)")
        flags.runs = [default]
    return run("predict", lambda: run_stoppable("predict", lambda _: predict(request_of(flags))))


def request_of(flags: argparse.Namespace) -> Request:
    """The flags as what is asked for.

    Raises:
      SettingsError: flags contradict each other.
    """
    for name in ("csv", "max_failures"):
        if getattr(flags, name) is not None and flags.images is None:
            raise SettingsError(f"--{name} must be given with --images, got none; add the folder")
    if flags.images is not None and flags.part is not None:
        raise SettingsError(
            f"--part must not be given with --images, which are no part of the records, got "
            f"{flags.part!r}; leave one of them out"
        )
    if flags.submission_columns and not flags.submission:
        raise SettingsError("--submission_columns: the CSV must be named with --submission")
    images = None
    if flags.images is not None:
        limit = {} if flags.max_failures is None else {"max_failures": flags.max_failures}
        images = Images(folder=flags.images, csv=flags.csv, **limit)
    other_names = {"runs", "part", "images", "csv", "max_failures", "submission_columns"}
    return Request(
        runs=tuple(flags.runs or ()),
        part=flags.part or OUT_OF_FOLD,
        images=images,
        submission_columns=flags.submission_columns or COLUMNS,
        **{name: value for name, value in vars(flags).items() if name not in other_names},
    )


if __name__ == "__main__":
    sys.exit(main())
