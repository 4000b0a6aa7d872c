"""The drawings of the page: curves, and learning curves.

Called by `trainer.report.page.layout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.preview.charts import SERIES, figure, histogram_chart, legend
from pipeline.preview.markup import Markup, tag
from trainer.calibration import reliability
from trainer.report.findings import Findings, Point
from trainer.report.page.charts import Line, Mark, square_chart
from trainer.report.page.curves import Point as CurvePoint
from trainer.report.page.curves import precision_points, roc_points
from trainer.report.page.tables import section
from trainer.search.charts import Series, line_chart

Curves = Mapping[str, Mapping[str, tuple[CurvePoint, ...]]]  # what is measured -> fold -> points

_BINS = 25  # of the histogram of scores


def curves(tables: Sequence[Findings], points: Sequence[Point]) -> Iterator[Markup]:
    """ROC and precision-recall of each table, or of each class of the first where it has several;
    its reliability and its scores.
    """
    first, columns = tables[0], tables[0].columns
    if len(columns) > 1:
        named = [(column.name, column) for column in columns[:SERIES]]
    else:
        columns = tuple(table.columns[0] for table in tables)
        named = list(zip(_short_names(tables), columns, strict=True))[:SERIES]
    names = legend([name for name, _ in named])
    marks = [
        Mark(place=(1 - at.specificity, at.sensitivity),
             name=f"{at.name} {100 * at.sensitivity:.3g} / {100 * at.specificity:.3g} %")
        for at in points
    ]  # fmt: skip
    roc, precision = (
        [Line(points=points_of(column), colour=place, title=name)
         for place, (name, column) in enumerate(named)]
        for points_of in (roc_points, precision_points)
    )  # fmt: skip
    charts = [
        figure("ROC", square_chart(roc, "1 − specificity", "sensitivity", marks=marks,
                                   has_diagonal=True), names),
        figure("precision–recall", square_chart(precision, "sensitivity (recall)", "precision"),
               names),
        _reliability(first), _histogram(first),
    ]  # fmt: skip
    yield section("Curves", tag("div", {"class": "charts"}, *charts))


def learning(by_run: Mapping[str, Curves]) -> Iterator[Markup]:
    """A line a fold, for every run whose folder was given; what was measured once has no curve."""
    charts = []
    for run, measured in by_run.items():
        for what, by_fold in measured.items():
            if max(map(len, by_fold.values())) < 2:
                continue
            series = [
                Series(points=points, colour=place % SERIES, title=fold)
                for place, (fold, points) in enumerate(by_fold.items())
            ]
            chart = line_chart(series, "epoch")
            charts.append(figure(f"{what} of {run}", chart, legend([*by_fold][:SERIES])))
    if charts:
        yield section("Learning curves", tag("div", {"class": "charts"}, *charts))


def _short_names(tables: Sequence[Findings]) -> list[str]:
    """The last part of each path where that tells them apart."""
    names = [table.name for table in tables]
    last = [name.rstrip("/").rpartition("/")[2] for name in names]
    return last if len(set(last)) == len(last) else names


def _reliability(findings: Findings) -> Markup:
    lines = []
    for place, (title, name) in enumerate((("as predicted", "score"), ("scaled", "scaled"))):
        curve = reliability(_pooled(findings, "target"), _pooled(findings, name))
        points = tuple(zip(curve.predicted.tolist(), curve.observed.tolist(), strict=True))
        radii = 2 + 6 * np.sqrt(curve.rows / curve.rows.max())
        lines.append(Line(points=points, colour=place, title=title, radii=tuple(radii.tolist())))
    found = sorted(findings.temperatures.values())
    span = " to ".join(dict.fromkeys(f"{at:.2f}" for at in (found[0], found[-1])))
    chart = square_chart(lines, "mean probability of a bin", "share of positives",
                         has_diagonal=True)  # fmt: skip
    caption = f"reliability{_of_all(findings)}; temperature {span}, fitted on the other folds"
    return figure(caption, chart, legend(["as predicted", "scaled"]))


def _histogram(findings: Findings) -> Markup:
    target, score = _pooled(findings, "target"), _pooled(findings, "score")
    edges = np.linspace(0, 1, _BINS + 1)
    shares = [
        np.histogram(score[target == side], edges)[0] / max(1, int((target == side).sum()))
        for side in (0, 1)
    ]
    caption = f"scores, share within negatives and positives{_of_all(findings)}"
    return figure(caption, histogram_chart(edges, shares), legend(["negative", "positive"]))


def _pooled(findings: Findings, name: str) -> np.ndarray:
    """Of all columns' rows with a target."""
    return np.concatenate([getattr(of, name)[of.is_known] for of in findings.columns])


def _of_all(findings: Findings) -> str:
    return "" if len(findings.columns) == 1 else ", all classes pooled"
