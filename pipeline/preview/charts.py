"""Charts as inline SVG, drawn for a width of 360 units and scaled by the page.

Colours are classes of the page's style (`series0` …), so that they follow its light or dark mode.
Called by `pipeline.preview.page`. A figure's caption says in words what its bars are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.preview.markup import Markup, tag

SERIES = 8  # colours there are
_WIDTH = 360
_LABEL, _NUMBER = 104, 62  # room for a row's name at the left, and for its figure at the right
_ROW, _BAR = 20, 12
_LONGEST_LABEL = 16  # characters
_PLOT_HEIGHT = 150
_LEFT, _BOTTOM, _TOP = 60, 22, 8  # margins of a plot with axes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of a bar chart: bars of several series under one name."""

    label: str
    values: tuple[float, ...]  # one a series, ≥ 0
    text: str  # at the right


def figure(caption: str, chart: Markup, *legend: Markup) -> Markup:
    """A chart under its caption."""
    return tag("figure", {"class": "chart"}, tag("figcaption", None, caption), *legend, chart)


def legend(names: Sequence[str]) -> Markup:
    """Which colour is which series."""
    items = []
    for place, name in enumerate(names):
        items.append(tag("span", None, tag("i", {"class": f"series{place}"}), short(name, 24)))
    return tag("p", {"class": "legend"}, *items)


def bar_chart(bars: Sequence[Bar], series: int = 0, largest: float | None = None) -> Markup:
    """Horizontal bars from 0, all on one scale, which ends at `largest` or at the longest bar.

    A lone series has the colour of `series`.
    """
    largest = largest or max((value for bar in bars for value in bar.values), default=0) or 1
    room = _WIDTH - _LABEL - _NUMBER
    shapes: list[Markup] = []
    top = 0.0
    for bar in bars:
        count = len(bar.values)
        thickness = _BAR if count == 1 else 7
        height = max(_ROW, count * (thickness + 1) + 7)
        middle = top + height / 2 + 4
        shapes.append(
            tag("text", {"x": _LABEL - 6, "y": middle, "class": "name"},
                short(bar.label, _LONGEST_LABEL), tag("title", None, bar.label))
        )  # fmt: skip
        first = top + (height - count * (thickness + 1) + 1) / 2
        for place, value in enumerate(bar.values):
            colour = series if count == 1 else place
            shapes.append(
                tag("rect", {
                    "x": _LABEL, "y": first + place * (thickness + 1), "height": thickness,
                    "width": max(room * value / largest, 0.75 if value else 0), "rx": 1.5,
                    "class": f"series{colour}",
                })
            )  # fmt: skip
        shapes.append(tag("text", {"x": _WIDTH - 2, "y": middle, "class": "name"}, bar.text))
        top += height
    return _svg(top, shapes)


def histogram_chart(
    edges: npt.NDArray[np.float64], shares: Sequence[npt.NDArray[np.float64]]
) -> Markup:
    """A line a series, through the middles of bins; `edges` [B + 1], `shares` [B] in [0, 1]."""
    largest = max((float(share.max()) for share in shares), default=0) or 1
    shapes = _axes(f"{edges[0]:g}", f"{edges[-1]:g}", f"{largest:.0%}")
    across = (_WIDTH - _LEFT - 8) / len(edges[1:])
    for place, share in enumerate(shares):
        points = [
            (_LEFT + (bin_ + 0.5) * across, _TOP + _PLOT_HEIGHT * (1 - value / largest))
            for bin_, value in enumerate(share)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes.append(tag("polyline", {"points": line, "class": f"line series{place}"}))
    return _svg(_TOP + _PLOT_HEIGHT + _BOTTOM, shapes)


def size_chart(widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64]) -> Markup:
    """How many images have which width (across) and height (up): darker is more, both from 0."""
    cells = 24
    most = int(max(widths.max(), heights.max())) + 1
    counts, _, _ = np.histogram2d(widths, heights, cells, ((0, most), (0, most)))
    side, plot = (_WIDTH - _LEFT - 8) / cells, _WIDTH - _LEFT - 8
    shapes = _axes("0", f"{most - 1:,} px wide", f"{most - 1:,} px", plot)
    for column, row in np.argwhere(counts):
        count = int(counts[column, row])
        left, bottom = int(column * most / cells), int(row * most / cells)
        shapes.append(
            tag("rect", {
                "x": _LEFT + column * side, "y": _TOP + plot - (row + 1) * side,
                "width": side, "height": side, "class": "series0",
                "opacity": 0.15 + 0.85 * count / float(counts.max()),
            }, tag("title", None, f"{count:,} images of about {left:,}×{bottom:,} px"))
        )  # fmt: skip
    return _svg(_TOP + plot + _BOTTOM, shapes)


def short(text: str, most: int) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _axes(left: str, right: str, top: str, height: float = _PLOT_HEIGHT) -> list[Markup]:
    """The frame of a plot with its three labels."""
    bottom = _TOP + height
    line = f"{_LEFT},{_TOP} {_LEFT},{bottom:g} {_WIDTH - 8},{bottom:g}"
    return [
        tag("polyline", {"points": line, "class": "axis"}),
        tag("text", {"x": _LEFT, "y": bottom + 16}, left),
        tag("text", {"x": _WIDTH - 8, "y": bottom + 16, "class": "name"}, right),
        tag("text", {"x": _LEFT - 6, "y": _TOP + 9, "class": "name"}, top),
    ]


def _svg(height: float, shapes: Sequence[Markup]) -> Markup:
    size: dict[str, str | float] = {"viewBox": f"0 0 {_WIDTH} {max(height, 1):g}", "role": "img"}
    return tag("svg", size, *shapes)
