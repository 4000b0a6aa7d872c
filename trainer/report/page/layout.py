"""`report.html`: what a table of predictions is worth, on one self-contained page.

Called by `trainer.report.__main__`. Every text is escaped where it is made
(`pipeline.preview.markup`), so an id or a class may hold anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from pipeline.preview.charts import SERIES
from pipeline.preview.markup import Markup, document, tag
from pipeline.preview.style import STYLE
from trainer.report.compared import Comparison
from trainer.report.examples import Shown
from trainer.report.findings import Findings, Point
from trainer.report.network.look import Looks
from trainer.report.page.drawings import Curves, curves, learning
from trainer.report.page.examples import examples, feature_maps
from trainer.report.page.tables import (
    classes,
    comparisons,
    decisions,
    folds,
    headlines,
    subgroups,
)
from trainer.report.subgroups import Subgroup

_STYLE = (
    STYLE
    + """
svg circle { stroke: var(--tile); stroke-width: 1; }
svg .diagonal { stroke-dasharray: 4 4; stroke: var(--faint); }
svg .mark { fill: var(--ink); }
th, td { padding: 2px 14px 2px 0; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; vertical-align: top; }
td small { margin-left: 6px; }
tr.head th { color: var(--ink); border-bottom: 1px solid var(--line); white-space: normal;
  vertical-align: bottom; }
tr.head .long { overflow-wrap: anywhere; }
.wide { overflow-x: auto; min-width: 0; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.note { color: var(--faint); font-size: 13px; max-width: 88ch; }
.beside { display: flex; flex-wrap: wrap; gap: 14px 28px; align-items: flex-start; }
.beside .chart { flex: 0 1 400px; }
.confusion th { vertical-align: middle; padding-right: 12px; }
.confusion th.number { text-align: right; }
.confusion td { text-align: right; padding: 8px 12px; border: 1px solid var(--line);
  background: color-mix(in srgb, var(--s0) calc(var(--share) * 60%), transparent); }
.confusion td small { color: inherit; opacity: 0.75; }
.shown { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(144px, 1fr)); }
.shown figure { margin: 0; min-width: 0; padding: 6px; background: var(--tile);
  border-top: 3px solid var(--s2); border-radius: 3px; }
.shown .wrong { border-top-color: var(--s1); }
.shown img { display: block; margin: 0 auto 4px; max-width: 100%; height: auto; }
@media (min-width: 700px) { .fives { grid-template-columns: repeat(5, 1fr); max-width: 860px; } }
.pairs { grid-template-columns: repeat(auto-fill, minmax(244px, 1fr)); }
.pairs img { display: inline-block; width: calc(50% - 2px); margin: 0 0 4px; }
.pairs img + img { margin-left: 4px; }
.maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 296px), 1fr)); }
.maps { margin-bottom: 10px; }
.maps figure { border-top: 0; }
.maps img { width: 284px; }
.shown figcaption { font-size: 12px; overflow-wrap: anywhere; }
.shown b { color: var(--ink); }
.shown b, .shown span { display: block; }
@media (max-width: 700px) {
  table { font-size: 12px; }
  main { padding: 16px 10px 40px; }
  th, td { padding-right: 5px; }
  tr th:first-child { white-space: normal; }
  table:not(.confusion) td small { display: block; margin: 0; font-size: 10px; }
  .beside .chart { flex-basis: 100%; }
}
"""
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the page shows."""

    findings: Findings
    comparisons: Sequence[Comparison]
    points: Sequence[Point]
    subgroups: Mapping[str, Sequence[Subgroup]]  # by column
    curves: Mapping[str, Curves]  # by run
    grid: Sequence[Shown]
    alarms: Sequence[Shown]
    misses: Sequence[Shown]
    pictures: Mapping[str, bytes]  # JPEG by id
    looks: Looks | None  # what the networks looked at, where it was asked for


def report_page(contents: Contents) -> str:
    """The page's HTML."""
    findings = contents.findings
    tables = [findings, *(comparison.other for comparison in contents.comparisons)]
    sections = (
        _head(findings),
        headlines(findings),
        comparisons(findings, contents.comparisons),
        curves(tables, contents.points),
        decisions(findings),
        folds(findings),
        classes(findings),
        subgroups(findings, contents.subgroups),
        learning(contents.curves),
        examples(
            contents.grid, contents.alarms, contents.misses, contents.pictures, contents.looks
        ),
        feature_maps(contents.looks, contents.pictures),
    )
    body = [markup for section in sections for markup in section]
    return document(f"report of {findings.name}", _STYLE, tag("main", None, *body))


def _head(findings: Findings) -> Iterator[Markup]:
    known = findings.is_known
    groups = {name for name, is_in in zip(findings.groups, known, strict=True) if is_in}
    numbers = [(f"{known.sum():,}", "rows"), (f"{len(groups):,}", "groups")]
    for column in findings.columns[:SERIES]:
        numbers.append((f"{column.is_positive.sum():,}", f"positive ({column.name})"))
    yield tag("h1", None, f"Report of {findings.name}")
    items = [tag("li", None, tag("b", None, number), f" {what}") for number, what in numbers]
    yield tag("ul", {"class": "figures"}, *items)
    if findings.selected_on:
        parts = ", ".join(findings.selected_on)
        text = (
            f"Selected on {parts}: these rows chose weights or rates, so all figures are too high."
        )
        yield tag("p", {"class": "warning"}, text)
    if findings.is_cut_by_group:
        text = (
            "The rows are of one part. Thresholds and temperatures were chosen on four fifths of "
        )
        text += "their groups and applied to the other, in turn; below, these fifths are the folds."
        yield tag("p", {"class": "warning"}, text)
    if findings.left_out:
        text = f"Too few rows to choose a threshold on: {', '.join(findings.left_out)}."
        yield tag("p", {"class": "warning"}, text)
