"""Draws dermoscopy-like JPEGs and a table like SIIM-ISIC 2020's, for demos and tests.

python -m pipeline.phantom --patients 120 --seed 7 --output data/phantom

Exit code 0: done; 2: the command line is at fault.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.command_line import Parser, run
from pipeline.phantom.write import PhantomSpec, write_phantom


def build_parser() -> Parser:
    parser = Parser("pipeline.phantom", __doc__)
    spec = PhantomSpec()
    sizes = ",".join(f"{width}x{height}" for width, height in spec.sizes)

    def add(flag: str, kind: type, default: object, what: str) -> None:
        parser.add_argument(flag, type=kind, default=default, help=f"{what} (%(default)s)")

    add("--output", str, "data/phantom", "folder for jpeg/ and train.csv")
    add("--patients", int, spec.patients, "how many patients")
    add("--seed", int, spec.seed, "the same seed gives the same bytes")
    add("--positive_share", float, spec.positive_share, "share of the images that are malignant")
    add("--images_per_patient", float, spec.images_per_patient, "mean number of images")
    parser.add_argument(
        "--sizes",
        type=parse_sizes,
        default=sizes,
        metavar="WxH,WxH,...",
        help="pixels, each size as likely as the next (%(default)s)",
    )
    return parser


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`640x480,600x800` as ((640, 480), (600, 800)); an argparse type."""
    sizes = []
    for size in text.split(","):
        width, _, height = size.strip().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise argparse.ArgumentTypeError(f"each must be WIDTHxHEIGHT, got {size!r}")
        sizes.append((int(width), int(height)))
    return tuple(sizes)


def main(argv: Sequence[str] | None = None) -> int:
    flags = vars(build_parser().parse(argv))
    output = flags.pop("output")

    def job() -> int:
        storage.refuse_remote(output, "--output", "copy the folder when it is drawn")
        rows = write_phantom(PhantomSpec(**flags), Path(output))
        positives = sum(row.malignant for row in rows)
        sys.stdout.write(f"{len(rows)} images, {positives} of them malignant: {output}\n")
        return 0

    return run("pipeline.phantom", job)


if __name__ == "__main__":
    sys.exit(main())
