"""Writes docs/tpu.md: EfficientNet-B0 to B7 at their own resolutions, and recipes at theirs.

    python -m benchmarks.tpu_table [--only b0,b1 --output PART.md] [--cache FOLDER]

Of each recipe the training and the evaluation step are compiled without a TPU: some 11 s to 6 min
each. Verdicts are kept, and the page is written after each recipe and type: stopped and started
again, the command goes on. What was not compiled yet the page says.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipeline import storage
from pipeline.command_line import names
from trainer.preflight.__main__ import default_cache
from trainer.preflight.asking import Asking
from trainer.preflight.compiler import Compiler, compiler_version
from trainer.preflight.estimate import Roofline
from trainer.preflight.module import EVALUATION
from trainer.preflight.subject import add_flags, read_subject
from trainer.preflight.tpu_types import TPU_TYPES

# Images a second that a core streams with full augmentation at 256 px (docs/log.md, "Stream").
STREAMED_PER_CORE = 2811 / 2
STREAM_PX = 256
PAGE = "docs/tpu.md"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A recipe at a size, and the types of TPU that it is compiled for."""

    name: str
    config: str  # under configs/, its batch size among it
    size_px: int
    tpu_types: tuple[str, ...] = ("v3-8", "v5e-8")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Of its name and a type."""
        return [(self.name, tpu_type) for tpu_type in self.tpu_types]


# Sizes of Tan and Le 2019 (arXiv 1905.11946), as in Keras' own EfficientNets.
_SIZES_PX = (224, 240, 260, 300, 380, 456, 528, 600)
NETWORKS = [Entry(f"b{n}", f"siim2020/b{n}.toml", size) for n, size in enumerate(_SIZES_PX)]
# B7 at 256 px without and with metadata; what won on v3 in 2020.
RECIPES = [
    Entry(name, f"{name}.toml", size_px, ("v3-8",))
    for name, size_px in (
        ("first_attempt/v2", 256),
        ("first_attempt/v3", 256),
        ("winners2020/b4_640", 640),
        ("winners2020/b5_640", 640),
        ("winners2020/b6_640", 640),
        ("winners2020/b7_640", 640),
    )
]
Found = Mapping[tuple[str, str], Mapping[str, Roofline]]  # by name and type, then by step


def main() -> int:
    """Compiles what is not known, writes the page as it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=names, help="compile these alone, such as b0,b1")
    parser.add_argument("--tpu_type", choices=("v3-8", "v5e-8"), help="for this type alone")
    parser.add_argument("--output", default=PAGE)
    parser.add_argument("--cache", default=default_cache())
    flags = parser.parse_args()
    entries = {entry.name: entry for entry in (*NETWORKS, *RECIPES)}
    chosen = flags.only or tuple(entries)
    if unknown := sorted({*chosen} - {*entries}):
        parser.error(f"--only must be among {', '.join(entries)}, got {unknown[0]}")
    if (flags.only or flags.tpu_type) and flags.output == PAGE:
        parser.error(f"--output must be given with --only and --tpu_type, for {PAGE} has all")
    found: dict[tuple[str, str], Mapping[str, Roofline]] = {}
    for name, tpu_type in (pair for entry in chosen for pair in entries[entry].pairs):
        if flags.tpu_type in (None, tpu_type):
            found[name, tpu_type] = ask(entries[name], tpu_type, flags.cache)
            storage.write_text(flags.output, page(found))
    return 0


def ask(entry: Entry, tpu_type: str, cache: str) -> Mapping[str, Roofline]:
    """The steps of a recipe at its size, with its own batch."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    words = ["--config", f"configs/{entry.config}", "--size_px", str(entry.size_px)]
    read = read_subject(parser.parse_args(words))
    compiler = Compiler(tpu_type=tpu_type, cache_folder=cache, timeout_s=6 * 3600.0)
    return Asking(read, compiler).steps(read.config.train.batch_size // TPU_TYPES[tpu_type].cores)


def page(found: Found) -> str:
    """docs/tpu.md."""
    lines = [
        "# What a TPU makes of the recipes, by its compiler",
        "",
        "Written by `python -m benchmarks.tpu_table`, which goes on where it was stopped; "
        f"{compiler_version()}. Nothing was run: memory, arithmetic and traffic are the compiler's "
        "figures for one core, without the sum of gradients over cores, and the rate is a bound "
        "(the roofline of all cores) that no step reaches.",
        "",
        "| TPU | cores | memory a core | bfloat16 a core | bandwidth a core | source |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_type_line(name) for name in TPU_TYPES),
        "",
        "Host cores are those that feed the bound: a core streams "
        f"{STREAMED_PER_CORE:,.0f} images/s of {STREAM_PX} px with full augmentation "
        "([log](log.md)), others by their pixels.",
        "",
        "## EfficientNet-B0 to B7 at their own resolutions",
        "`configs/siim2020/b0.toml` to `b7.toml`, 32 examples a core, bfloat16.",
        "",
        *_table(NETWORKS, found),
        "",
        "## Recipes at their own sizes and batches",
        "Those under `configs/`, bfloat16; `v3` and its kind with 16 columns of metadata.",
        "",
        *_table(RECIPES, found),
    ]
    pairs = [pair for entry in (*NETWORKS, *RECIPES) for pair in entry.pairs]
    if missing := [
        f"{name} on {tpu_type}" for name, tpu_type in pairs if (name, tpu_type) not in found
    ]:
        lines += ["", f"Not compiled yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _table(entries: Iterable[Entry], found: Found) -> list[str]:
    return [
        "| recipe | px | batch a core | TPU | step | fits | memory a core | GFLOP an image | "
        "MB an image | images/s at most | bound by | host cores |",
        "|" + " --- |" * 12,
        *(
            _step_line(entry, tpu_type, step, roofline)
            for entry in entries
            for name, tpu_type in entry.pairs
            for step, roofline in found.get((name, tpu_type), {}).items()
        ),
    ]


def _type_line(name: str) -> str:
    tpu = TPU_TYPES[name]
    return (
        f"| {name} | {tpu.cores} | {tpu.memory_bytes / 2**30:.1f} GiB | "
        f"{tpu.flops / 1e12:.1f} TFLOP/s | {tpu.bandwidth / 1e9:.0f} GB/s | {tpu.source} |"
    )


def _step_line(entry: Entry, tpu_type: str, step: str, roofline: Roofline) -> str:
    verdict = roofline.verdict
    memory = f"{verdict.memory_bytes / 2**30:.2f} GiB ({roofline.memory_share:.0%})"
    head = f"| {entry.name} | {entry.size_px} | {roofline.batch} | {tpu_type} | {step} |"
    if verdict.refusal is not None:
        return f"{head} no | {memory if verdict.memory_bytes else ''} | | | | | |"
    pixels = (entry.size_px / STREAM_PX) ** 2
    cores = roofline.images_per_second / STREAMED_PER_CORE * pixels
    fed = "" if step == EVALUATION else f"{cores:.0f}"
    return (
        f"{head} yes | {memory} | {roofline.flops_per_image / 1e9:.2f} | "
        f"{roofline.bytes_per_image / 1e6:.1f} | {roofline.images_per_second:,.0f} | "
        f"{roofline.bound} | {fed} |"
    )


if __name__ == "__main__":
    sys.exit(main())
