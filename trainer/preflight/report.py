"""What a preflight prints: a table, what an epoch would take, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trainer.preflight.compiler import Verdict
from trainer.preflight.estimate import Roofline, epoch_s
from trainer.preflight.module import EVALUATION
from trainer.preflight.subject import Subject

_COLUMNS = (
    "step", "batch a core", "in all", "fits", "memory a core", "GFLOP an image", "MB an image",
    "images/s at most", "bound by",
)  # fmt: skip
_MOST_OPS = 3
_MOST_TEXT = 300


def table(lines: Sequence[tuple[str, Roofline]]) -> str:
    """A line a step; the rate is of all cores, and a bound."""
    cells = [_COLUMNS, *(_cells(name, roofline) for name, roofline in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def epoch_text(
    steps: Mapping[str, Roofline], subject: Subject, price_per_hour: float | None
) -> str | None:
    """`an epoch of 26,000 images and 6,500 validated: at least 12 s`.

    None where no count is known, or not every step compiles. Of several stages, the longest's.
    """
    training = [roofline for name, roofline in steps.items() if name != EVALUATION]
    if subject.images is None or EVALUATION not in steps:
        return None
    if any(roofline.verdict.refusal is not None for roofline in steps.values()):
        return None
    longest = max(training, key=lambda roofline: roofline.seconds)
    seconds = epoch_s(longest, steps[EVALUATION], subject.images, subject.validation_images or 0)
    validated = f" and {subject.validation_images:,} validated" if subject.validation_images else ""
    cost = (
        "" if price_per_hour is None else f", {_two_digits(price_per_hour * seconds / 3600)} to pay"
    )
    return (
        f"an epoch of {subject.images:,} images{validated}: at least {_two_digits(seconds)} s{cost}"
    )


def refusal_text(verdict: Verdict) -> str:
    """The compiler's own words, shortened, and the ops of ours that they name."""
    words = " ".join((verdict.refusal or "").split())
    ops = ", ".join(verdict.refused_ops[:_MOST_OPS])
    return words[:_MOST_TEXT] + (f" … in {ops}" if ops else "")


def maps_text(maps: Sequence[tuple[str, int]]) -> str:
    """`1.38 GiB block2a_expand_conv, 0.69 GiB stem_conv`."""
    return ", ".join(f"{size / 2**30:.2f} GiB {_layer_of(name)}" for name, size in maps)


def _layer_of(op: str) -> str:
    """`block2a_expand_conv` of `functional_1_1/block2a_expand_conv_1/convolution`."""
    parts = op.split("/")
    return re.sub(r"_\d+$", "", parts[-2] if len(parts) > 1 else op)


def _two_digits(value: float) -> str:
    """`0.0012`, `1.7`, `3,456`: so few, for a bound has no more."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _cells(name: str, roofline: Roofline) -> tuple[str, ...]:
    verdict, batch = roofline.verdict, roofline.batch
    cells = (name, f"{batch}", f"{batch * roofline.tpu.cores}")
    memory = f"{verdict.memory_bytes / 2**30:.2f} GiB ({roofline.memory_share:.0%})"
    if verdict.refusal is not None:
        fits = "no" if verdict.is_too_large else "refused"
        return (*cells, fits, memory if verdict.memory_bytes else "", "", "", "", "")
    return (
        *cells,
        "yes",
        memory,
        f"{roofline.flops_per_image / 1e9:.2f}",
        f"{roofline.bytes_per_image / 1e6:.1f}",
        f"{roofline.images_per_second:,.0f}",
        roofline.bound,
    )
