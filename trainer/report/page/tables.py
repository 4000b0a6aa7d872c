"""The tables of the page: figures, comparisons, decisions, folds, classes, subgroups.

Called by `trainer.report.page.layout`. Whatever stands in a cell is escaped by `tag`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.preview.charts import figure, short
from pipeline.preview.markup import Markup, tag
from trainer.intervals import Interval
from trainer.metrics import truth
from trainer.report.compared import Comparison
from trainer.report.figures import drawn_figures
from trainer.report.findings import HEADLINES, Findings, of_folds
from trainer.report.page.charts import Span, span_chart
from trainer.report.subgroups import LEAST_GROUPS, SHOWN, Subgroup
from trainer.thresholds import RATES

_LONGEST_WORD = 14  # characters; longer ones are broken, or a narrow page would cut the table off
_UNSCALED = {name: of for name, of in HEADLINES.items() if "scal" not in name}


def headlines(findings: Findings) -> Iterator[Markup]:
    """Every figure of all rows with its interval."""
    found = {name: findings.interval(of) for name, of in HEADLINES.items()}
    lines = []
    for name, interval in found.items():
        lines.append((name, _number(interval.figure), _ends(interval.low, interval.high)))
        if name == "AUC" and (ends := findings.delong()):
            lines.append(("AUC (DeLong, by row)", _number(interval.figure), _ends(*ends)))
    spans = [_span(name, of, text="") for name, of in found.items() if name in _UNSCALED]
    mean = "" if len(findings.columns) == 1 else " Each figure is the mean over the classes."
    note = (
        f"All rows pooled. Intervals draw {findings.unit}s anew, {found['AUC'].draws:,} times; "
        "DeLong's takes the rows for independent. Thresholds and temperatures were chosen on the "
        "other folds; sensitivity and specificity are at the threshold of the best balanced "
        "accuracy, F1 and F2 at their own. Drawn anew, bins hold fewer different rows: the "
        f"interval of an ECE lies high.{mean}"
    )
    table = _table(("", "figure", f"95 % by {findings.unit}"), lines)
    yield section("Figures", _beside(table, figure("with 95 % intervals", span_chart(spans))),
                  note=note)  # fmt: skip


def comparisons(first: Findings, compared: Sequence[Comparison]) -> Iterator[Markup]:
    """A table a comparison: both figures and their paired difference."""
    if not compared:
        return
    parts = []
    for comparison in compared:
        other, lines = comparison.other, []
        for name, difference in comparison.differences.items():
            of = HEADLINES[name]
            both = [_number(side.interval(of).figure) for side in (first, other)]
            lines.append((name, *both, _difference(difference.figure, difference.low,
                                                   difference.high)))  # fmt: skip
            if name == "AUC" and comparison.delong:
                lines.append(
                    (
                        "AUC (DeLong, by row)",
                        *both,
                        _difference(difference.figure, *comparison.delong),
                    )
                )
        inside = [tag("h3", None, f"minus {other.name}")]
        if other.selected_on:
            text = f"{other.name} was selected on {', '.join(other.selected_on)}: too high."
            inside.append(tag("p", {"class": "warning"}, text))
        inside.append(_table(("", "this", "other", f"difference, 95 % by {first.unit}"), lines))
        parts.append(tag("div", None, *inside))
    note = (
        "Both are scored on the same draws of the same rows; bold where the interval leaves out 0. "
        "Of a Brier score and an ECE less is better."
    )
    yield section("Compared", _beside(*parts), note=note)


def decisions(findings: Findings) -> Iterator[Markup]:
    """What each criterion's thresholds give, and who is taken for whom."""
    criteria = list(findings.columns[0].decisions)
    lines = [
        (rate, *(_with_ends(findings.interval(f"{rate}, {criterion}")) for criterion in criteria))
        for rate in RATES
    ]
    parts = [_table(("at thresholds chosen for", *criteria), lines)]
    if len(findings.columns) == 1:
        (column,) = findings.columns
        taken = column.decisions["balanced accuracy"]
        counts = np.array([
            [(column.target == side) & (taken == bool(said)) for said in (0, 1)] for side in (0, 1)
        ]).sum(axis=2)  # fmt: skip
        names = (f"not {column.name}", column.name)
        parts.append(_confusion("at the thresholds for balanced accuracy", names, counts))
    label = findings.predictions.label
    if label.kind == "multiclass":
        truths = truth(findings.predictions)
        known = ~np.isnan(truths).any(axis=1)
        said = findings.predictions.probs[known].argmax(axis=1)
        counts = np.zeros((len(label.classes),) * 2, np.int64)
        np.add.at(counts, (truths[known].argmax(axis=1), said), 1)
        parts.append(_confusion("by the likeliest class", label.classes, counts))
    note = "A fold's thresholds were chosen on the others."
    yield section("Decisions", *parts, note=note)


def folds(findings: Findings) -> Iterator[Markup]:
    """A column a fold, then their mean."""
    by_fold = of_folds(findings)
    lines = []
    for name, of in _UNSCALED.items():
        values = np.array([figures[of] for figures in by_fold.values()])
        lines.append((name, *map(_number, values), _spread(values[~np.isnan(values)])))
    temperatures = np.array([findings.temperatures[fold] for fold in by_fold])
    lines.append(("temperature", *map(_number, temperatures), _spread(temperatures)))
    head = ("fold", *map(str, by_fold), "mean ± deviation")
    rows = [f"{((findings.folds == fold) & findings.is_known).sum():,}" for fold in by_fold]
    note = "A fold's thresholds and temperature were chosen on the others."
    yield section("Folds", _table(head, [("rows", *rows, ""), *lines]), note=note)


def classes(findings: Findings) -> Iterator[Markup]:
    """A line a class."""
    if not findings.by_class:
        return
    lines = []
    for column in findings.by_class:
        drawn = drawn_figures([column], findings.groups, draws=0, seed=0)
        counts = (f"{column.is_known.sum():,}", f"{column.is_positive.sum():,}")
        lines.append((column.name, *counts, *(_number(drawn[of][0]) for of in _UNSCALED.values())))
    note = "Each class against the rest, with thresholds of its own."
    yield section("Classes", _table(("class", "rows", "positive", *_UNSCALED), lines), note=note)


def subgroups(findings: Findings, by_column: Mapping[str, Sequence[Subgroup]]) -> Iterator[Markup]:
    """A table and a chart a column."""
    if not by_column:
        return
    everybody = findings.interval("AUC").figure
    parts = []
    for column, found in by_column.items():
        lines = []
        for of in found:
            cells: list[str] = [_with_ends(interval) for interval in of.figures.values()]
            lines.append((of.value, f"{of.rows:,}", f"{of.positives:,}",
                          *(cells or ["too few to judge"])))  # fmt: skip
        inside = [_table(("", "rows", "positive", *SHOWN), lines)]
        spans = [
            _span(of.value, of.figures["AUC"], text=_number(of.figures["AUC"].figure))
            for of in found
            if of.figures
        ]
        if spans:
            inside.append(figure("AUC; dashed: of all rows", span_chart(spans, everybody)))
        parts += [tag("h3", None, column), _beside(*inside)]
    note = (
        f"With fewer than {LEAST_GROUPS} groups that have a positive, or a negative, no figure is "
        "given. Thresholds are those of all rows. Where many subgroups are looked at, some are "
        "apart by chance."
    )
    yield section("Subgroups", *parts, note=note)


def section(title: str, *inside: Markup, note: str = "") -> Markup:
    """A part of the page under its title."""
    notes = [tag("p", {"class": "note"}, note)] if note else []
    return tag("section", None, tag("h2", None, title), *notes, *inside)


def _confusion(caption: str, names: Sequence[str], counts: npt.NDArray[np.int64]) -> Markup:
    head = tag("tr", None, tag("th", None, "is ↓ taken for →"),
               *(tag("th", {"class": "number"}, short(name, 24)) for name in names))  # fmt: skip
    lines = [head]
    for name, of_row in zip(names, counts.tolist(), strict=True):
        total = max(1, sum(of_row))
        cells = [
            tag("td", {"style": f"--share: {count / total:.3f}"}, f"{count:,}",
                tag("small", None, f"{count / total:.0%}"))
            for count in of_row
        ]  # fmt: skip
        lines.append(tag("tr", None, tag("th", None, short(name, 24)), *cells))
    table = tag("div", {"class": "wide"}, tag("table", {"class": "confusion"}, *lines))
    return tag("div", None, tag("h3", None, f"Confusion {caption}"), table)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Markup:
    """A line's last cell goes on to the end."""
    shown = [tag("tr", {"class": "head"}, *map(_head_cell, head))]
    for first, *others, last in lines:
        cells = [tag("td", None, cell) for cell in others]
        cells.append(tag("td", {"colspan": len(head) - 1 - len(others)}, last))
        shown.append(tag("tr", None, tag("th", None, short(first, 40)), *cells))
    return tag("div", {"class": "wide"}, tag("table", None, *shown))


def _head_cell(name: str) -> Markup:
    is_long = any(len(word) > _LONGEST_WORD for word in name.split())
    return tag("th", {"class": "long"} if is_long else None, name)


def _beside(*inside: Markup) -> Markup:
    return tag("div", {"class": "beside"}, *inside)


def _span(name: str, interval: Interval, *, text: str) -> Span:
    return Span(name=name, figure=interval.figure, low=interval.low, high=interval.high, text=text)


def _number(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.3f}"


def _ends(low: float, high: float) -> str:
    return "n/a" if np.isnan(low) else f"{low:.3f}–{high:.3f}"


def _with_ends(interval: Interval) -> Markup:
    ends = tag("small", None, _ends(interval.low, interval.high))
    return tag("span", None, _number(interval.figure), ends)


def _difference(figure: float, low: float, high: float) -> Markup:
    if np.isnan(figure):
        return tag("span", None, "n/a")
    name = "b" if low > 0 or high < 0 else "span"
    ends = tag("small", None, f"{low:+.3f} to {high:+.3f}")
    return tag("span", None, tag(name, None, f"{figure:+.3f}"), ends)


def _spread(known: npt.NDArray[np.float64]) -> str:
    if not len(known):
        return "n/a"
    deviation = f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else ""
    return f"{known.mean():.3f}{deviation}"
