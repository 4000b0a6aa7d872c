r"""Tries recipes on the same folds, a run folder each, and says which is ahead and by how much.

    python -m trainer.search --records out/256 --run searches/focal --config configs/b0.toml \
        --grid optimizer.learning_rate=1e-3,3e-4 --grid loss.gamma=1,2 --folds 0,1
    python -m trainer.search --records out/256 --run searches/rates --config configs/b0.toml \
        --random optimizer.learning_rate=1e-5:1e-2:log --trials 20 --folds 0,1 --prune

Every value of each `--grid` with every other, and with every draw of `--random`. The same command
again goes on: what is complete is kept, what was broken off goes on at its checkpoint, what failed
is told (`--retry_failed` tries it again); other values add trials to those there. Writes `--run`'s
`trials/NNN-DIGEST/` (runs as of `trainer.task`), `search.json`, `search.csv` and `search.html`.

Exit codes: 0 done, 1 no trial has a result, 2 the command line or a combination is at fault, which
is told before the first trial starts; 143 and 130 stopped by SIGTERM or Ctrl-C, the trials saved.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import get_args

from pipeline.command_line import Parser, add_set_flag, run
from trainer.intervals import DRAWS
from trainer.running.stopping import Stopped, Stopping
from trainer.search.results import MetricName
from trainer.search.run import search
from trainer.strategy import add_run_flags


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.search", __doc__)
    parser.add_argument("--records", required=True, help="a record set, such as out/256")
    parser.add_argument(
        "--run",
        default=os.environ.get("AIP_MODEL_DIR"),
        help="the folder to write into (default: AIP_MODEL_DIR, which Vertex AI sets)",
    )
    parser.add_argument("--config", help="the recipe to vary (default: every default)")
    add_set_flag(parser, "a setting of all trials; may be repeated")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="values to try, as --set takes them; may be repeated",
    )
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="KEY=LOW:HIGH[:log]",
        help="a range to draw from, whole numbers if both ends are; may be repeated",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="how often to draw from --random")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the draws and of the bootstrap (default 0)"
    )
    parser.add_argument("--folds", default="all", help="all (default), or such as 0,1")
    parser.add_argument(
        "--metric",
        default="auc",
        choices=get_args(MetricName),
        help="out of fold, pooled, by which trials are ranked (default auc)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="train a fold of each trial first; only the better half goes on, fold by fold",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="trials side by side, each on its share of the CPU's cores (default 1; on a GPU or a "
        "TPU leave it)",
    )
    parser.add_argument("--retry_failed", action="store_true", help="try failed trials again")
    parser.add_argument("--fresh", action="store_true", help="forget all trials of --run")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"of the bootstrap (default {DRAWS})"
    )
    add_run_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and searches."""
    parser = build_parser()
    flags = parser.parse(argv)
    if flags.run is None:
        parser.error("--run must be given: the folder to write into")
    return run("search", lambda: _stopping_cleanly(flags))


def _stopping_cleanly(flags: argparse.Namespace) -> int:
    try:
        with Stopping().listening():
            return search(flags)
    except Stopped as stopped:
        print(f"search: {stopped}; the same command again goes on from here", file=sys.stderr)
        return stopped.exit_code


if __name__ == "__main__":
    sys.exit(main())
