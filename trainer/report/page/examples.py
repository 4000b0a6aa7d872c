"""Predictions one by one, with their pictures and what the networks looked at in them.

Called by `trainer.report.page.layout`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.preview.markup import Markup, tag
from trainer.report.examples import Shown
from trainer.report.network.look import Looks
from trainer.report.page.tables import section


def examples(
    grid: Sequence[Shown], alarms: Sequence[Shown], misses: Sequence[Shown],
    pictures: Mapping[str, bytes], looks: Looks | None,
) -> Iterator[Markup]:  # fmt: skip
    """A tile a prediction, with its picture where there is one (JPEG by id), and a mistake with
    its overlay.
    """
    overlays = looks.overlays if looks else {}

    def cam(spoke: str) -> str:
        if looks is None or not overlays:
            return ""
        return (
            f" Beside it Grad-CAM of {looks.run}, by the fold that left the row out, of "
            f"{looks.places}: the warmer, the more a place spoke {spoke}; where nothing did, the "
            "picture is as it was."
        )

    sheets: tuple[tuple[str, Sequence[Shown], Mapping[tuple[str, str], bytes], str], ...] = (
        ("Predictions", grid, {}, "Drawn by the seed, up to 12 of them positive, by score. Green: "
         "on the right side of the threshold for balanced accuracy, chosen out of fold; red: not."),
        ("Most confident false alarms", alarms, overlays,
         f"Negatives that scored highest.{cam('for the score')}"),
        ("Most confident misses", misses, overlays,
         f"Positives that scored lowest.{cam('against it')}"),
    )  # fmt: skip
    for title, shown, over, note in sheets:
        if shown:
            tiles = [
                _tile(one, pictures.get(one.id), over.get((one.id, one.said))) for one in shown
            ]
            style = "shown pairs" if over else "shown fives" if shown is grid else "shown"
            yield section(title, tag("div", {"class": style}, *tiles), note=note)


def feature_maps(looks: Looks | None, pictures: Mapping[str, bytes]) -> Iterator[Markup]:
    """A sheet of channels a layer, for each row that was asked about."""
    if looks is None or not looks.sheets:
        return
    parts = []
    for id_ in dict.fromkeys(sheet.id for sheet in looks.sheets):
        tiles = [_figure([(pictures[id_], id_)], [_name(id_)])]
        tiles += [
            _figure([(sheet.jpeg, f"{sheet.layer} of {id_}")], [sheet.layer, sheet.about])
            for sheet in looks.sheets
            if sheet.id == id_
        ]
        parts.append(tag("div", {"class": "shown maps"}, *tiles))
    note = (
        f"What layers of {looks.run} give for the rows of the highest and the lowest score above, "
        "in the fold that left them out: the channels of the largest mean, each on its own scale."
    )
    yield section("Feature maps", *parts, note=note)


def _tile(shown: Shown, jpeg: bytes | None, overlay: bytes | None) -> Markup:
    images = [(jpeg, shown.id)] if jpeg is not None else []
    images += [(overlay, f"Grad-CAM of {shown.id}")] if overlay is not None else []
    threshold = f"{shown.threshold:.3f}" if math.isfinite(shown.threshold) else "none"
    lines = (
        f"P({shown.said}) {shown.score:.3f}",
        f"threshold {threshold}, fold {shown.fold}",
        f"true: {shown.truth}",
        _name(shown.id),
    )
    return _figure(images, lines, "" if shown.is_right else "wrong")


def _figure(images: Sequence[tuple[bytes, str]], lines: Sequence[str], style: str = "") -> Markup:
    inside = []
    for jpeg, alt in images:
        data = base64.b64encode(jpeg).decode()
        inside.append(tag("img", {"src": f"data:image/jpeg;base64,{data}", "alt": alt}))
    first, *others = lines
    texts = (tag("b", None, first), *(tag("span", None, line) for line in others))
    return tag("figure", {"class": style}, *inside, tag("figcaption", None, *texts))


def _name(id_: str) -> str:
    return id_.rpartition("/")[2]
