"""The report's own charts, as inline SVG in the colours of the preview's style.

Drawn for a width of 360 units, as `pipeline.preview.charts` draws. Called by `tables` and
`drawings` of this room.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pipeline.preview.charts import short
from pipeline.preview.markup import Markup, tag

Point = tuple[float, float]

_WIDTH, _SIDE = 360, 290  # units; the side of a square plot
_LEFT, _TOP, _BOTTOM = 46, 10, 42
_NAME, _TEXT, _ROW = 128, 48, 22  # room for a name and a figure's text; the height of a row
_INSET = 8  # so that a dot at an end touches no text
_LONGEST_NAME = 18  # characters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Points in [0, 1] both ways, joined, with a dot each where there are radii."""

    points: tuple[Point, ...]
    colour: int  # `series0` … of the style
    title: str  # what the mouse shows
    radii: tuple[float, ...] = ()  # units, one a point


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """One named point of a square chart."""

    place: Point
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A figure between the ends of its interval."""

    name: str
    figure: float
    low: float
    high: float
    text: str  # at the right


def square_chart(
    lines: Sequence[Line], across: str, up: str, *, marks: Sequence[Mark] = (),
    has_diagonal: bool = False,
) -> Markup:  # fmt: skip
    """Lines over [0, 1] both ways; the first lies on top."""
    bottom, right = _TOP + _SIDE, _LEFT + _SIDE
    shapes = []
    for tick in np.linspace(0, 1, 6).tolist():
        x, y = _place((tick, tick))
        shapes.append(tag("line", {"x1": _LEFT, "x2": right, "y1": y, "y2": y, "class": "axis"}))
        shapes.append(tag("line", {"x1": x, "x2": x, "y1": _TOP, "y2": bottom, "class": "axis"}))
        shapes.append(tag("text", {"x": _LEFT - 6, "y": y + 4, "class": "name"}, f"{tick:.1f}"))
        shapes.append(_centred(x, bottom + 16, f"{tick:.1f}"))
    if has_diagonal:
        ends = {"x1": _LEFT, "y1": bottom, "x2": right, "y2": _TOP}
        shapes.append(tag("line", {**ends, "class": "axis diagonal"}))
    for line in reversed(lines):
        places = [_place(point) for point in line.points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        title = tag("title", None, line.title)
        shapes.append(
            tag("polyline", {"points": drawn, "class": f"line series{line.colour}"}, title)
        )
        for place, radius in zip(places, line.radii, strict=False):
            shapes.append(_dot(place, f"series{line.colour}", title, radius))
    for mark in marks:
        x, y = _place(mark.place)
        is_left = mark.place[0] < 0.6
        shapes.append(_dot((x, y), "mark", tag("title", None, mark.name)))
        shapes.append(
            tag("text", {"x": x + (9 if is_left else -9), "y": y + 15,
                         "class": "" if is_left else "name"}, short(mark.name, 26))
        )  # fmt: skip
    shapes.append(_centred(_LEFT + _SIDE / 2, bottom + 34, across))
    shapes.append(
        tag("text", {"x": 0, "y": 0, "text-anchor": "middle",
                     "transform": f"translate(12 {_TOP + _SIDE / 2:g}) rotate(-90)"}, up)
    )  # fmt: skip
    return _svg(_TOP + _SIDE + _BOTTOM, shapes)


def span_chart(spans: Sequence[Span], at: float | None = None) -> Markup:
    """A row a figure: a dot on the line of its interval, all on one scale; upright at `at`."""
    known = [span for span in spans if np.isfinite(span.figure)]
    ends = [end for span in known for end in (span.low, span.high, span.figure) if np.isfinite(end)]
    low, high = min([*ends, *([] if at is None else [at])]), max(ends)
    left, room = _NAME + _INSET, _WIDTH - _NAME - _TEXT - 2 * _INSET

    def x_of(value: float) -> float:
        return left + room * ((value - low) / (high - low) if high > low else 0.5)

    height = _ROW * len(spans) + 22
    shapes = [_centred(x_of(end), height - 4, f"{end:.2f}") for end in {low, high}]
    if at is not None:
        x = x_of(at)
        ends_at = {"x1": x, "x2": x, "y1": 0, "y2": height - 20}
        shapes.append(tag("line", {**ends_at, "class": "axis diagonal"}))
    for place, span in enumerate(spans):
        y = _ROW * place + _ROW / 2
        shapes.append(
            tag("text", {"x": _NAME - 8, "y": y + 4, "class": "name"},
                short(span.name, _LONGEST_NAME), tag("title", None, span.name))
        )  # fmt: skip
        shapes.append(tag("text", {"x": _WIDTH - 2, "y": y + 4, "class": "name"}, span.text))
        if span not in known:
            continue
        if np.isfinite(span.low):
            reach = {"x1": x_of(span.low), "x2": x_of(span.high), "y1": y, "y2": y}
            shapes.append(tag("line", {**reach, "class": "line series0"}))
        shapes.append(_dot((x_of(span.figure), y), "series0", tag("title", None, span.text)))
    return _svg(height, shapes)


def _place(point: Point) -> Point:
    return _LEFT + point[0] * _SIDE, _TOP + (1 - point[1]) * _SIDE


def _dot(place: Point, style: str, title: Markup, radius: float = 4) -> Markup:
    return tag("circle", {"cx": place[0], "cy": place[1], "r": radius, "class": style}, title)


def _centred(x: float, y: float, text: str) -> Markup:
    return tag("text", {"x": x, "y": y, "text-anchor": "middle"}, text)


def _svg(height: float, shapes: Sequence[Markup]) -> Markup:
    size: dict[str, str | float] = {"viewBox": f"0 0 {_WIDTH} {height:g}", "role": "img"}
    return tag("svg", size, *shapes)
