"""Writes docs/tpu.md: EfficientNet-B0 to B7 at their own resolutions, on a v3 and a v5e.

    python -m benchmarks.tpu_table [--only b0,b1] [--output docs/tpu.md] [--cache FOLDER]

Of each network the training and the evaluation step of its recipe in configs/siim2020/, 32 examples
a core, are compiled without a TPU: minutes for B0, some ten times as many for B7. Verdicts are
kept, and the page is written after each network: stopped and started again, the command goes on.
What was not compiled yet the page says.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipeline import storage
from pipeline.command_line import names
from trainer.preflight.__main__ import default_cache
from trainer.preflight.asking import EVALUATION, Asking
from trainer.preflight.compiler import Compiler, compiler_version
from trainer.preflight.estimate import Roofline
from trainer.preflight.subject import add_flags, read_subject
from trainer.preflight.tpu_types import TPU_TYPES

# Tan and Le 2019 (arXiv 1905.11946), as in Keras' own EfficientNets.
SIZES_PX = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "b4": 380, "b5": 456, "b6": 528, "b7": 600}
TYPES = ("v3-8", "v5e-8")
BATCH = 32  # a core; 256 in all on either type
# Images a second that two cores stream with full augmentation at 256 px (docs/log.md, "Stream").
STREAMED_PER_CORE = 2811 / 2
STREAM_PX = 256

Table = Mapping[tuple[str, str], Mapping[str, Roofline]]  # by network and type, then by step


def main() -> int:
    """Compiles what is not known, writes the page after each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=names, help="compile these alone, such as b0,b1")
    parser.add_argument("--output", default="docs/tpu.md")
    parser.add_argument("--cache", default=default_cache())
    flags = parser.parse_args()
    chosen = flags.only or tuple(SIZES_PX)
    if unknown := sorted({*chosen} - {*SIZES_PX}):
        parser.error(f"--only must be among {', '.join(SIZES_PX)}, got {unknown[0]}")
    found: dict[tuple[str, str], Mapping[str, Roofline]] = {}
    for network in chosen:
        for tpu_type in TYPES:
            found[network, tpu_type] = ask(network, tpu_type, flags.cache)
            storage.write_text(flags.output, page(found, SIZES_PX))
    return 0


def ask(network: str, tpu_type: str, cache: str) -> Mapping[str, Roofline]:
    """The steps of a recipe at the network's resolution."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    words = ["--config", f"configs/siim2020/{network}.toml", "--size_px", str(SIZES_PX[network])]
    compiler = Compiler(tpu_type=tpu_type, cache_folder=cache, timeout_s=6 * 3600.0)
    return Asking(read_subject(parser.parse_args(words)), compiler).steps(BATCH)


def page(found: Table, networks: Collection[str]) -> str:
    """docs/tpu.md."""
    lines = [
        "# What a TPU makes of the recipes, by its compiler",
        "",
        "Written by `python -m benchmarks.tpu_table`, which goes on where it was stopped; "
        f"{compiler_version()}. Nothing was run: memory, arithmetic and traffic are the compiler's "
        "figures for one core, without the sum of gradients over cores, and the rate is a bound "
        "(the roofline of all cores) that no step reaches. "
        f"`configs/siim2020/b0.toml` to `b7.toml`, {BATCH} examples a core, bfloat16.",
        "",
        "| TPU | cores | memory a core | bfloat16 a core | bandwidth a core | source |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_type_line(name) for name in TPU_TYPES),
        "",
        "Host cores are those that feed the bound: a core streams "
        f"{STREAMED_PER_CORE:,.0f} images/s of {STREAM_PX} px with full augmentation "
        "([log](log.md)), others by their pixels.",
        "",
        "| network | px | TPU | step | fits | memory a core | GFLOP an image | MB an image | "
        "images/s at most | bound by | host cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for network in networks:
        for tpu_type in TYPES:
            steps = found.get((network, tpu_type), {})
            lines += [
                _step_line(network, tpu_type, name, roofline) for name, roofline in steps.items()
            ]
    missing = [
        f"{network} on {tpu_type}"
        for network in networks
        for tpu_type in TYPES
        if (network, tpu_type) not in found
    ]
    if missing:
        lines += ["", f"Not compiled yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _type_line(name: str) -> str:
    tpu = TPU_TYPES[name]
    return (
        f"| {name} | {tpu.cores} | {tpu.memory_bytes / 2**30:.1f} GiB | "
        f"{tpu.flops / 1e12:.1f} TFLOP/s | {tpu.bandwidth / 1e9:.0f} GB/s | {tpu.source} |"
    )


def _step_line(network: str, tpu_type: str, name: str, roofline: Roofline) -> str:
    size_px, verdict = SIZES_PX[network], roofline.verdict
    memory = f"{verdict.memory_bytes / 2**30:.2f} GiB ({roofline.memory_share:.0%})"
    head = f"| {network} | {size_px} | {tpu_type} | {name} |"
    if verdict.refusal is not None:
        return f"{head} no | {memory if verdict.memory_bytes else ''} | | | | | |"
    cores = roofline.images_per_second / STREAMED_PER_CORE * (size_px / STREAM_PX) ** 2
    fed = "" if name == EVALUATION else f"{cores:.0f}"
    return (
        f"{head} yes | {memory} | {roofline.flops_per_image / 1e9:.2f} | "
        f"{roofline.bytes_per_image / 1e6:.1f} | {roofline.images_per_second:,.0f} | "
        f"{roofline.bound} | {fed} |"
    )


if __name__ == "__main__":
    sys.exit(main())
