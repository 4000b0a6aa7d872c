r"""Combines the out-of-fold predictions of several runs, and says what each is worth.

    python -m trainer.ensemble runs/image runs/fused --method mean --output runs/ensemble.parquet
    python -m trainer.ensemble runs/* --method optimal --metric average_precision \
        --output best.parquet --submission best.csv --apply_to runs/*/predictions-test-1.parquet

Members must cover the same ids with the same targets and folds, or the figure would compare unlike
things. Whatever a method chooses (members, weights, references of ranks and z-scores, a
temperature, a threshold) is chosen by all folds but one and scored on that one, in turn; the table
shows what choosing flatters beside it. Runs without folds name the part that may choose:
`--select_on`. Beside the predictions the ensemble of all folds is written as JSON, plain numbers
that `pipeline.combine` applies to other rows. Starts without TensorFlow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipeline.command_line import Parser, names, run
from pipeline.errors import SettingsError
from trainer.ensemble.honest import Recipe
from trainer.ensemble.methods import METHODS
from trainer.ensemble.run import Submission, ensemble
from trainer.ensemble.scoring import AGGREGATES


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.ensemble", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", help="run folders, or predictions files (.parquet)")
    add("--method", default="mean", help=f"{', '.join(METHODS)} (default mean)")
    add(
        "--metric",
        default="auc",
        help="what is chosen and judged by: auc, average_precision, sensitivity@0.9 (at that "
        "specificity), f1_macro, f2, balanced_accuracy (default auc)",
    )
    add("--aggregate", help=f"score groups (patients) by {' or '.join(AGGREGATES)}, not rows")
    add("--select_on", help="the part whose rows choose, such as val (default: folds, in turn)")
    add("--weights", type=numbers, help="for weighted: one a member (default: searched)")
    add("--calibrate", action="store_true", help="divide the logits by a chosen temperature")
    add("--output", required=True, help="the predictions file to write (.parquet)")
    add("--json", help="the ensemble's own file (default: beside --output, .json)")
    add("--submission", help="a CSV to write, of ids and scores")
    add("--apply_to", nargs="+", default=(), help="what it scores: a predictions file a member")
    add("--part", help="or a part of the members' own files (default test)")
    add("--submission_columns", type=names, help="its columns (default image_name,target)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and combines."""
    flags = build_parser().parse(argv)

    def job() -> int:
        recipe = Recipe(
            method=flags.method,
            metric=flags.metric,
            aggregate=flags.aggregate,
            select_on=flags.select_on,
            weights=flags.weights,
            is_calibrated=flags.calibrate,
        )
        ensemble(
            flags.runs,
            recipe,
            flags.output,
            json_file=flags.json,
            submission=submission_of(flags),
        )
        return 0

    return run("ensemble", job)


def submission_of(flags: argparse.Namespace) -> Submission | None:
    """The CSV that is asked for.

    Raises:
      SettingsError: a flag that says how to write it is given, and none is asked for.
    """
    given = {
        "apply_to": tuple(flags.apply_to),
        "part": flags.part,
        "columns": flags.submission_columns,
    }
    given = {name: value for name, value in given.items() if value}
    if flags.submission is None:
        if given:
            raise SettingsError(
                "--submission: the CSV to write must be named with --apply_to, --part and "
                "--submission_columns, got none; add it, or leave them out"
            )
        return None
    return Submission(file=flags.submission, **given)


def numbers(text: str) -> tuple[float, ...]:
    """`0.5,2` as a tuple of floats; an argparse type."""
    try:
        return tuple(float(item) for item in names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be numbers parted by commas, got {text!r}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
