"""`DIR/search.html`: the ranking, the trials' curves, and each setting against the figure.

One page that needs nothing but a browser; whatever comes from a recipe or a process is escaped
where it is made (`pipeline.preview.markup`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.preview.charts import figure, short
from pipeline.preview.markup import Markup, document, tag
from pipeline.preview.style import STYLE
from pipeline.settings import parse_override
from trainer.metrics import as_text
from trainer.run_folder import METRICS_NAME, fold_folder
from trainer.search.charts import (
    Point,
    Series,
    line_chart,
    named_scatter_chart,
    scatter_chart,
)
from trainer.search.results import METRICS, Findings, Result, result_lines, without_result
from trainer.search.trials import Trial

PAGE_NAME = "search.html"
_COLOURED = 8  # the first of the ranking; the others share the grey
_STYLE = (
    STYLE
    + """
svg circle { stroke: var(--tile); stroke-width: 1; }
td { padding: 2px 16px 2px 0; font-variant-numeric: tabular-nums; white-space: nowrap; }
td i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 2px; }
.wide { overflow-x: auto; }
"""
)

Line = Mapping[str, Any]  # of metrics.jsonl


def write_page(folder: str, findings: Findings) -> None:
    """Writes the page; the curves are read from the trials' `metrics.jsonl`."""
    body = [
        tag("h1", None, f"Search by {METRICS[findings.metric][0]} on {findings.validation}"),
        *_warning(findings),
        *_ranking(findings),
        *_curves(findings),
        *_settings(findings),
        *_left(findings),
    ]
    page = document("search", _STYLE, tag("main", None, *body))
    storage.write_text(storage.join(folder, PAGE_NAME), page)


def _warning(findings: Findings) -> Iterator[Markup]:
    if findings.results:
        yield tag("p", {"class": "warning"}, f"{findings.caution}.")


def _ranking(findings: Findings) -> Iterator[Markup]:
    if not findings.results:
        return
    head, *cells = result_lines(findings)
    lines = [tag("tr", None, *(tag("th", None, cell) for cell in head))]
    for place, (first, *others) in enumerate(cells):
        swatch = tag("i", {"class": f"series{_colour(place)}"})
        shown = [tag("td", None, swatch, first), *(tag("td", None, cell) for cell in others)]
        lines.append(tag("tr", None, *shown))
    yield tag("section", {"class": "wide"}, tag("h2", None, "Ranking"), tag("table", None, *lines))


def _curves(findings: Findings) -> Iterator[Markup]:
    """Means over folds, by epoch; losses of several kinds are on several scales."""
    name, _ = METRICS[findings.metric]
    curves: list[tuple[str, Callable[[Line], float | None]]] = [
        ("training loss", lambda line: line["loss"]),
        (f"validation {name}", lambda line: line.get("validation", {}).get(findings.metric)),
    ]
    histories = [_history(result.trial) for result in findings.results]
    charts = []
    for caption, figure_of in curves:
        series = []
        for place, (result, folds) in enumerate(zip(findings.results, histories, strict=True)):
            if points := _means(folds, figure_of):
                colour = _colour(place)
                series.append(Series(points=points, colour=colour, title=result.trial.name))
        if series:
            chart = line_chart(series, "epoch")
            charts.append(figure(f"{caption} by epoch, mean over folds", chart))
    if charts:
        yield _section("Curves", charts)


def _settings(findings: Findings) -> Iterator[Markup]:
    """A scatter a setting that differs: the figure against the value."""
    known = [
        (_colour(place), result)
        for place, result in enumerate(findings.results)
        if not np.isnan(result.pooled)
    ]
    charts = []
    for key in findings.keys:
        shown = [(colour, of, of.trial.setting(key)) for colour, of in known]
        if len({value for _, _, value in shown}) > 1:
            charts.append(figure(f"{METRICS[findings.metric][0]} by {key}", _scatter(key, shown)))
    if charts:
        yield _section("Settings", charts)


def _scatter(key: str, shown: Sequence[tuple[int, Result, str]]) -> Markup:
    numbers = [_number(key, value) for _, _, value in shown]
    names = list(dict.fromkeys(value for _, _, value in shown))
    is_numeric = None not in numbers
    series = []
    for (colour, result, value), number in zip(shown, numbers, strict=True):
        x = float(names.index(value)) if number is None or not is_numeric else number
        title = f"{result.trial.name}: {as_text(result.pooled)}"
        series.append(Series(points=((x, result.pooled),), colour=colour, title=title))
    if is_numeric:
        return scatter_chart(series, key)
    return named_scatter_chart([short(name, 12) for name in names], series, key)


def _left(findings: Findings) -> Iterator[Markup]:
    """What has no figure, and why."""
    items = without_result(findings)
    if items:
        listed = tag("ul", None, *(tag("li", None, item) for item in items))
        yield tag("section", None, tag("h2", None, "Without a result"), listed)


def _history(trial: Trial) -> list[list[Line]]:
    """The lines of `metrics.jsonl` of each fold that has them."""
    paths = [storage.join(fold_folder(trial.folder, fold.number), METRICS_NAME)
             for fold in trial.folds]  # fmt: skip
    texts = [storage.read_text(path) for path in paths if storage.exists(path)]
    return [[json.loads(line) for line in text.splitlines()] for text in texts]


def _means(
    folds: Sequence[Sequence[Line]], figure_of: Callable[[Line], float | None]
) -> tuple[Point, ...]:
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for lines in folds:
        for line in lines:
            if (value := figure_of(line)) is not None:
                by_epoch[line["epoch"]].append(value)
    return tuple((float(epoch), float(np.mean(of))) for epoch, of in sorted(by_epoch.items()))


def _number(key: str, text: str) -> float | None:
    """The value as a recipe reads it, if that is a number."""
    value: Any = parse_override(f"{key}={text}")
    for name in key.split("."):
        value = value[name]
    return float(value) if type(value) in (int, float) else None


def _colour(place: int) -> int:
    return min(place, _COLOURED)


def _section(title: str, charts: Sequence[Markup]) -> Markup:
    legend = tag("p", {"class": "legend"}, "Colours as in the ranking.")
    grid = tag("div", {"class": "charts"}, *charts)
    return tag("section", None, tag("h2", None, title), legend, grid)
