r"""Says what predictions are worth, on one page, with the same numbers as JSON.

    python -m trainer.report runs/fused --output report.html
    python -m trainer.report ensemble.parquet runs/fused runs/image --output report.html \
        --records out/256 --subgroups sex,age,site --model_card model_card.md

The first run or predictions file is judged; the others, of the same rows, are compared with it.
Thresholds and temperatures are chosen on the other folds; intervals draw groups. Writes `--output`
and beside it the numbers: `metrics.json`, or `NAME-metrics.json` where the page is not report.html.
`--records` adds subgroups and pictures, and with them `--grad_cam` what the networks of the first
run folder looked at in their mistakes. Only that and `--feature_maps` start TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pipeline import storage
from pipeline.command_line import Parser, names, run
from pipeline.errors import SettingsError
from pipeline.predictions import predictions_file, read_predictions
from pipeline.records.manifest import read_manifest
from trainer.ensemble import align
from trainer.intervals import DRAWS
from trainer.report.card import model_card
from trainer.report.compared import Comparison, compare, same_groups
from trainer.report.examples import choose_grid, choose_mistakes
from trainer.report.findings import Findings, Point, as_table, find, to_json
from trainer.report.network.look import Gallery, Looks, choose_run, look
from trainer.report.page.curves import learning_curves
from trainer.report.page.layout import Contents, report_page
from trainer.report.page.pictures import Picture, read_pictures
from trainer.report.subgroups import Subgroup, choose_columns, find_subgroups, records_rows

PAGE_NAME, METRICS_NAME = "report.html", "metrics.json"


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.report", __doc__)
    parser.add_argument("runs", nargs="+", help="run folders, or predictions files (.parquet)")
    parser.add_argument("--output", required=True, help="the page to write (.html)")
    parser.add_argument("--records", help="the record set of these rows, such as out/256")
    parser.add_argument(
        "--subgroups",
        type=names,
        default=(),
        help="columns of the records, or a word of theirs (default: sex, age, site and source, as "
        "far as there are)",
    )
    parser.add_argument(
        "--point",
        type=_point,
        action="append",
        default=[],
        metavar="NAME=SENS,SPEC",
        help="somebody's sensitivity and specificity in percent, beside the ROC; may be repeated",
    )
    parser.add_argument(
        "--grad_cam",
        action="store_true",
        help="overlay the mistakes with what the first run folder's networks looked at",
    )
    parser.add_argument(
        "--grad_cam_layer",
        metavar="LAYER",
        help="whose map (default: the backbone's last, which is coarse for small images)",
    )
    parser.add_argument(
        "--feature_maps",
        type=names,
        default=(),
        metavar="LAYERS",
        help="what such layers give for the rows of the grid's ends, such as block3_relu,block5_bn",
    )
    parser.add_argument("--model_card", metavar="FILE", help="write a model card too (.md)")
    parser.add_argument(
        "--draws", type=int, default=DRAWS, help=f"of the bootstrap (default {DRAWS})"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the draws and of the grid (default 0)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and reports."""
    flags = build_parser().parse(argv)

    def job() -> int:
        report(flags)
        return 0

    return run("report", job)


def report(flags: argparse.Namespace) -> Findings:
    """Writes the page, its numbers and the card; gives what was found.

    Raises:
      SettingsError: a flag is at fault, or one file is given twice.
      DataError: predictions or records are, or do not belong together.
    """
    _check(flags)
    trained = choose_run(flags.runs) if flags.grad_cam or flags.feature_maps else None
    members = align([read_predictions(name) for name in flags.runs], flags.runs)
    first, *others = (
        find(name, member, points=tuple(flags.point), draws=flags.draws, seed=flags.seed)
        for name, member in zip(flags.runs, same_groups(members), strict=True)
    )
    comparisons = [compare(first, other) for other in others]
    manifest = read_manifest(flags.records) if flags.records else None
    grid = choose_grid(first, flags.seed)
    alarms, misses = choose_mistakes(first)
    subgroups: dict[str, list[Subgroup]] = {}
    pictures: dict[str, Picture] = {}
    looks: Looks | None = None
    if manifest:
        rows = records_rows(flags.records, first)
        subgroups = {
            column: find_subgroups(first, rows[column], draws=flags.draws, seed=flags.seed)
            for column in choose_columns(flags.subgroups, rows)
        }
        ids = {shown.id for shown in (*grid, *alarms, *misses)}
        shown_rows = rows[rows["id"].isin(ids)]
        pictures = read_pictures(flags.records, manifest, shown_rows)
        if trained:
            looks = look(
                trained,
                Gallery(manifest=manifest, rows=shown_rows, pictures=pictures),
                alarms if flags.grad_cam else [],
                misses if flags.grad_cam else [],
                cam_layer=flags.grad_cam_layer,
                layers=flags.feature_maps,
                layers_of=[*grid[:1], *grid[1:][-1:]] if flags.feature_maps else [],
            )
    contents = Contents(
        findings=first,
        comparisons=comparisons,
        points=flags.point,
        subgroups=subgroups,
        curves={name: found for name in flags.runs if (found := learning_curves(name))},
        grid=grid,
        alarms=alarms,
        misses=misses,
        pictures={id_: picture.small for id_, picture in pictures.items()},
        looks=looks,
    )
    storage.write_text(flags.output, report_page(contents))
    numbers = _numbers(first, comparisons, subgroups)
    storage.write_text(metrics_file(flags.output), json.dumps(numbers, indent=1) + "\n")
    if flags.model_card:
        storage.write_text(flags.model_card, model_card(first, flags.runs[0], manifest, subgroups))
    print(f"{first.interval('AUC').text()} AUC of {first.name}: {flags.output}")
    return first


def metrics_file(page: str) -> str:
    """Of the page's numbers, beside it: no two pages of a folder share one."""
    folder, _, name = page.rpartition("/")
    prefix = "" if name == PAGE_NAME else f"{name.removesuffix('.html')}-"
    return storage.join(folder or ".", f"{prefix}{METRICS_NAME}")


def _check(flags: argparse.Namespace) -> None:
    if not flags.output.endswith(".html"):
        raise SettingsError(f"--output: the page must end in .html, got {flags.output!r}")
    if flags.model_card and not flags.model_card.endswith(".md"):
        raise SettingsError(f"--model_card: the file must end in .md, got {flags.model_card!r}")
    if flags.draws < 1:
        raise SettingsError(f"--draws must be 1 or more, got {flags.draws}")
    if flags.subgroups and not flags.records:
        raise SettingsError("--subgroups: --records must be given with it: it holds the columns")
    for name in ("grad_cam", "feature_maps"):
        if getattr(flags, name) and not flags.records:
            raise SettingsError(f"--{name}: --records must be given with it: it holds the images")
    if flags.grad_cam_layer and not flags.grad_cam:
        raise SettingsError("--grad_cam_layer: --grad_cam must be given with it")
    files = [predictions_file(name) for name in flags.runs]
    for place, file in enumerate(files):
        if file in files[:place]:
            raise SettingsError(f"runs: each must be given once, got {flags.runs[place]} again")


def _numbers(
    first: Findings, comparisons: Sequence[Comparison], subgroups: dict[str, list[Subgroup]]
) -> dict[str, object]:
    compared = {
        comparison.other.name: {
            "figures": to_json(comparison.other)["figures"],
            "differences": {of: as_table(at) for of, at in comparison.differences.items()},
            "auc_difference_delong": comparison.delong,
        }
        for comparison in comparisons
    }
    by_subgroup = {
        column: {
            of.value: {
                "rows": of.rows,
                "positives": of.positives,
                "figures": {name: as_table(at) for name, at in of.figures.items()} or None,
            }
            for of in found
        }
        for column, found in subgroups.items()
    }
    return {**to_json(first), "by_subgroup": by_subgroup, "compared": compared}


def _point(text: str) -> Point:
    """`dermatologists=74.1,60` as a Point; an argparse type."""
    name, _, numbers = text.rpartition("=")
    try:
        sensitivity, specificity = (float(number) / 100 for number in numbers.split(","))
    except ValueError:
        sensitivity = specificity = -1.0
    if not name or not (0 <= sensitivity <= 1 and 0 <= specificity <= 1):
        raise argparse.ArgumentTypeError(
            f"must be NAME=SENSITIVITY,SPECIFICITY in percent, such as readers=74.1,60, "
            f"got {text!r}"
        )
    return Point(name=name, sensitivity=sensitivity, specificity=specificity)


if __name__ == "__main__":
    sys.exit(main())
