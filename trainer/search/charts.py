"""The curves and scatters of `search.html`, as inline SVG in the colours of the preview's style.

Drawn for a width of 360 units, as `pipeline.preview.charts` draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pipeline.preview.markup import Markup, tag

Point = tuple[float, float]

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 8, 24
_INSET = 0.03  # of the plot, so that a dot at an end is whole
_TICKS = 5
_LOG_FROM = 20.0  # a range whose ends are so many times apart is shown by its logarithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one colour, joined by a line unless it is a scatter."""

    points: tuple[Point, ...]
    colour: int  # `series0` … of the style
    title: str  # what the mouse shows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """From values to places in [0, 1]."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """0.5 where all values are one."""
        low, high, value = (self._length(number) for number in (self.low, self.high, value))
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Round values within; of a logarithm powers of ten, and between few of them 2 and 5."""
        if self.low == self.high:
            return [self.low]
        if self.is_log:
            tens = self._powers((1,))
            return tens if len(tens) > 2 else self._powers((1, 2, 5))
        step = _round_step((self.high - self.low) / _TICKS)
        if self.low.is_integer() and self.high.is_integer():
            step = max(step, 1.0)  # epochs have no halves
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [step * number for number in range(first, last + 1)]

    def _powers(self, factors: Sequence[int]) -> list[float]:
        """The factors times powers of ten, as far as they are within."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        return [value for value in every if self.low <= value <= self.high]

    def _length(self, value: float) -> float:
        return math.log(value) if self.is_log else value


def scale_of(values: Sequence[float]) -> Scale:
    """Over the values; by logarithm where they are above 0 and far apart."""
    low, high = min(values), max(values)
    return Scale(low=low, high=high, is_log=low > 0 and high / low >= _LOG_FROM)


def line_chart(series: Sequence[Series], across: str) -> Markup:
    """A line a series, a dot where it has one point; the first lies on top.

    Upwards by logarithm where a loss falls that far.
    """
    points = [point for of in series for point in of.points]
    right = _linear([x for x, _ in points])
    up = scale_of([y for _, y in points])
    shapes = _axes(right, up, across)
    for of in reversed(series):
        places = [_place(right, up, point) for point in of.points]
        title = tag("title", None, of.title)
        if len(places) == 1:
            shapes.append(_dot(places[0], of.colour, title))
        else:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            shapes.append(
                tag("polyline", {"points": line, "class": f"line series{of.colour}"}, title)
            )
    return _svg(shapes)


def scatter_chart(series: Sequence[Series], across: str) -> Markup:
    """A dot a point over numbers."""
    points = [point for of in series for point in of.points]
    right, up = scale_of([x for x, _ in points]), _linear([y for _, y in points])
    shapes = _axes(right, up, f"{across} (logarithmic)" if right.is_log else across)
    for of in reversed(series):
        for point in of.points:
            title = tag("title", None, of.title)
            shapes.append(_dot(_place(right, up, point), of.colour, title))
    return _svg(shapes)


def named_scatter_chart(names: Sequence[str], series: Sequence[Series], across: str) -> Markup:
    """A dot a point over names: x is the place of the name."""
    right = Scale(low=-0.5, high=len(names) - 0.5)
    up = _linear([y for of in series for _, y in of.points])
    ticks = [(float(place), name) for place, name in enumerate(names)]
    shapes = _axes(right, up, across, ticks)
    for of in reversed(series):
        for point in of.points:
            title = tag("title", None, of.title)
            shapes.append(_dot(_place(right, up, point), of.colour, title))
    return _svg(shapes)


def _axes(
    right: Scale, up: Scale, across: str, named: Sequence[tuple[float, str]] | None = None
) -> list[Markup]:
    """The frame, its ticks, and under it what goes across."""
    bottom = _TOP + _HEIGHT
    line = f"{_LEFT},{_TOP} {_LEFT},{bottom} {_WIDTH - _RIGHT},{bottom}"
    shapes = [tag("polyline", {"points": line, "class": "axis"})]
    for value in up.ticks():
        _, y = _place(right, up, (right.low, value))
        shapes.append(
            tag("line", {"x1": _LEFT, "x2": _WIDTH - _RIGHT, "y1": y, "y2": y, "class": "axis"})
        )
        shapes.append(tag("text", {"x": _LEFT - 6, "y": y + 4, "class": "name"}, f"{value:.4g}"))
    for value, name in named or [(value, f"{value:.4g}") for value in right.ticks()]:
        x, _ = _place(right, up, (value, up.low))
        shapes.append(_centred(x, bottom + 16, name))
    return [*shapes, _centred((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 34, across)]


def _centred(x: float, y: float, text: str) -> Markup:
    return tag("text", {"x": x, "y": y, "text-anchor": "middle"}, text)


def _dot(place: Point, colour: int, title: Markup) -> Markup:
    x, y = place
    return tag("circle", {"cx": x, "cy": y, "r": 4, "class": f"series{colour}"}, title)


def _place(right: Scale, up: Scale, point: Point) -> Point:
    across, upwards = (
        _INSET + (1 - 2 * _INSET) * scale.place(value)
        for scale, value in zip((right, up), point, strict=True)
    )
    return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _TOP + (1 - upwards) * _HEIGHT


def _linear(values: Sequence[float]) -> Scale:
    return Scale(low=min(values), high=max(values))


def _round_step(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def _svg(shapes: Sequence[Markup]) -> Markup:
    height = _TOP + _HEIGHT + _BOTTOM + 16
    size: dict[str, str | float] = {"viewBox": f"0 0 {_WIDTH} {height}", "role": "img"}
    return tag("svg", size, *shapes)
