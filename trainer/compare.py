"""Whether one run is ahead of another: the paired difference of their predictions.

    python -m trainer.compare runs/fused runs/baselines/logistic-metadata

Both files must cover the same ids with the same targets and folds. Each draw of groups is scored
for both, so what makes a draw easy or hard for both is not in the difference
(`trainer.intervals.difference_intervals`). Starts without TensorFlow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.align import align
from pipeline.command_line import Parser, run
from pipeline.errors import SettingsError
from pipeline.predictions import predictions_file, read_predictions
from trainer.intervals import DRAWS, difference_intervals, intervals


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.compare", __doc__)
    parser.add_argument("first", help="a run folder, or a predictions file (.parquet)")
    parser.add_argument("second", help="what it is compared with")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"of the bootstrap (default {DRAWS})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and compares."""
    flags = build_parser().parse(argv)

    def job() -> int:
        print(compare(flags.first, flags.second, draws=flags.draws, seed=flags.seed))
        return 0

    return run("compare", job)


def compare(first: str, second: str, *, draws: int = DRAWS, seed: int = 0) -> str:
    """A line a metric: both figures with their intervals, and the difference with its own.

    Raises:
      SettingsError: one file is given twice, or no draws are asked for.
      PredictionsError: a file is missing, or ids, targets or folds differ.
    """
    if predictions_file(first) == predictions_file(second):
        raise SettingsError(f"compare: two runs must be given, got {first} twice")
    if draws < 1:
        raise SettingsError(f"--draws must be 1 or more, got {draws}")
    names = (first, second)
    members = align([read_predictions(name) for name in names], names)
    own = [intervals(member, draws=draws, seed=seed) for member in members]
    differences = difference_intervals(members[0], members[1], draws=draws, seed=seed)
    lines = [f"{first} minus {second}, {len(members[0].frame):,} rows, {draws:,} draws"]
    for name, difference in differences.items():
        figures = "   ".join(figure[name].text() for figure in own)
        lines.append(f"{name:10}{difference.text(is_difference=True)}   of {figures}")
    for name, member in zip(names, members, strict=True):
        if parts := member.run.get("selected_on"):
            lines.append(f"{name} was selected on {', '.join(parts)}: its figures flatter it")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
