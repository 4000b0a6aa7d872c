r"""Will a recipe compile on a TPU, fit, and cost what? Asked of the TPU compiler, without a TPU.

    python -m trainer.preflight --config configs/b0.toml --records out/256 --tpu_type v3-8
    python -m trainer.preflight --config configs/siim2020/b7.toml --size_px 600 --tpu_type v3-8 \
        --batch 64,128 --images 26000

Compiles the very steps that the trainer runs (training, of each stage, and evaluation) for one
core. All figures are estimates of the compiler's, rates and times bounds that no step reaches;
nothing is run, no image and no weight is read, and the sum of gradients over cores is left out. A
compilation takes seconds for a small network and minutes for a large one; verdicts are kept.

Exit codes: 0 every step compiles and fits, 1 one does not (the largest batch that would is named),
2 the command line or the recipe is at fault.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.command_line import Parser, run, whole_numbers
from pipeline.errors import DataError, SettingsError
from trainer.preflight.asking import LARGEST, Asking
from trainer.preflight.compiler import Compiler, compiler_version
from trainer.preflight.report import epoch_text, maps_text, refusal_text, table
from trainer.preflight.subject import Subject, add_flags, read_subject
from trainer.preflight.tpu_types import TPU_TYPES
from trainer.running.stopping import run_stoppable


class RefusedError(DataError):
    """The compiler takes a step as it is on no core of this type."""


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.preflight", __doc__)
    add_flags(parser)
    parser.add_argument("--tpu_type", required=True, choices=tuple(TPU_TYPES))
    parser.add_argument(
        "--batch",
        type=whole_numbers,
        metavar="N,N",
        help="examples a core, such as 32,64,128 (default: train.batch_size over the cores)",
    )
    parser.add_argument(
        "--largest_batch", action="store_true", help="find the largest batch that fits a core"
    )
    parser.add_argument(
        "--price_per_hour", type=float, help="of the whole TPU, in any money, for an epoch's cost"
    )
    parser.add_argument(
        "--timeout_s", type=float, default=3600.0, help="of one compilation (default: 3600)"
    )
    parser.add_argument(
        "--cache", default=default_cache(), help="where verdicts are kept (default: %(default)s)"
    )
    return parser


def default_cache() -> str:
    """The user's folder for what can be made again."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return str(Path(root, "foldstream", "preflight").expanduser())


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and asks."""
    flags = build_parser().parse(argv)
    # What was answered is kept.
    return run("preflight", lambda: run_stoppable("preflight", lambda _: preflight(flags)))


def preflight(flags: argparse.Namespace) -> int:
    """Prints what the compiler says of each batch; 0 when it takes them all.

    Raises:
      RefusedError: it does not.
    """
    if flags.timeout_s <= 0:
        raise SettingsError(f"--timeout_s must be above 0, got {flags.timeout_s}")
    if flags.price_per_hour is not None and flags.price_per_hour < 0:
        raise SettingsError(f"--price_per_hour must be 0 or more, got {flags.price_per_hour}")
    subject = read_subject(flags)
    asking = Asking(
        subject,
        Compiler(tpu_type=flags.tpu_type, cache_folder=flags.cache, timeout_s=flags.timeout_s),
    )
    batches = flags.batch or _batch_of(subject, flags.tpu_type)
    if min(batches) < 1:
        raise SettingsError(f"--batch must be 1 or more, got {min(batches)}")
    print(
        f"{flags.tpu_type}: {asking.tpu.cores} cores of {asking.tpu.memory_bytes / 2**30:.1f} GiB "
        f"({asking.tpu.source}); estimates by {compiler_version()}, nothing is run",
        flush=True,
    )
    batches = sorted(set(batches))
    steps = {batch: asking.steps(batch) for batch in batches}
    print(table([line for batch in batches for line in steps[batch].items()]))
    for batch in batches:
        if text := epoch_text(steps[batch], subject, flags.price_per_hour):
            print(f"batch {batch} a core: {text}")
    _check(asking, batches, flags.tpu_type)
    if flags.largest_batch:
        largest = asking.largest()
        assert largest is not None  # those asked for fit
        limit = f" (none above {LARGEST} a core is tried)" if largest > LARGEST // 2 else ""
        print(f"the largest batch that fits: {_both(largest, asking)}{limit}")
    return 0


def _check(asking: Asking, batches: Sequence[int], tpu_type: str) -> None:
    """Raises RefusedError for the smallest batch that the compiler refuses."""
    refused = [batch for batch in batches if asking.worst(batch).refusal is not None]
    if not refused:
        return
    batch, verdict = refused[0], asking.worst(refused[0])
    if not verdict.is_too_large:
        raise RefusedError(
            f"{tpu_type}: the step must compile, got from the compiler: {refusal_text(verdict)}"
        )
    maps = f" (largest maps: {maps_text(told)})" if (told := asking.maps(batch)) else ""
    needed = f"{verdict.memory_bytes / 2**30:.2f} GiB needed{maps}"
    print(
        f"preflight: batch {batch} a core does not fit, {needed}; looking for the largest that "
        "does …",
        file=sys.stderr,
        flush=True,
    )
    largest = asking.largest()
    mend = (
        f"the largest that fits is {_both(largest, asking)}: "
        f"--set train.batch_size={largest * asking.tpu.cores}"
        if largest
        else "not one example a core fits; take smaller images, or a smaller network"
    )
    raise RefusedError(
        f"{tpu_type}: batch {batch} a core must fit its memory, got {needed}; {mend}"
    )


def _both(batch: int, asking: Asking) -> str:
    return f"{batch} a core, {batch * asking.tpu.cores} in all"


def _batch_of(subject: Subject, tpu_type: str) -> tuple[int]:
    cores, batch_size = TPU_TYPES[tpu_type].cores, subject.config.train.batch_size
    if batch_size % cores:
        raise SettingsError(
            f"train.batch_size must be a multiple of the {cores} cores of {tpu_type}, got "
            f"{batch_size}; or give --batch, the examples a core"
        )
    return (batch_size // cores,)


if __name__ == "__main__":
    sys.exit(main())
