"""`OUT/preview.html`: what a record set looks like, on one page that needs nothing but a browser.

`beam_jobs.make_records` writes it at the end. Folds, sizes, metadata and a contact sheet a class
show at a glance what figures hide: a class of blank images, a site that only one class has, a size
that came from another camera.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.dataset.labels import one_hot
from pipeline.preview.charts import (
    SERIES,
    Bar,
    bar_chart,
    figure,
    histogram_chart,
    legend,
    size_chart,
)
from pipeline.preview.markup import Markup, document, tag
from pipeline.preview.sample import Sample, read_sample
from pipeline.preview.style import STYLE
from pipeline.records.features import table_column, with_role
from pipeline.records.manifest import Manifest, read_rows
from pipeline.wording import counted

PREVIEW_NAME = "preview.html"
_THUMBNAILS = 240  # on the page
_EACH = (12, 24)  # at least and at most, of a class
_MOST_SHEETS = 20
_MOST_VALUES = 12  # of a categorical column
_BINS = 20

Classes = dict[str, npt.NDArray[np.bool_]]  # by name, the rows that are of the class


def write_preview(
    output: str, folders: Sequence[str], manifests: Sequence[Manifest], rows: pd.DataFrame,
    dropped: int,
) -> str:  # fmt: skip
    """Writes `OUT/preview.html` and gives its path.

    `folders` and `manifests` are of the sizes just made, the smallest first; `rows` the plan's;
    `dropped` the rows that the plan left out.
    """
    first = manifests[0]
    written = rows[rows["row"].isin(read_rows(folders[0], ["row"])["row"])].reset_index(drop=True)
    classes = _classes(first, written)
    sample = None
    if with_role(first.features, "image") and len(written):
        each = min(max(_THUMBNAILS // len(classes), _EACH[0]), _EACH[1])
        shown = dict(list(classes.items())[:_MOST_SHEETS])
        sample = read_sample(folders[0], first, written, shown, each)
    body = [
        *_head(manifests, dropped),
        *_parts(first),
        *_failures(first),
        *_sizes(sample),
        *_metadata(first, written, classes),
        *_sheets(first, sample, classes),
        *_digests(manifests),
    ]
    page = document(f"{first.name}: preview", STYLE, tag("main", None, *body))
    path = storage.join(output, PREVIEW_NAME)
    storage.write_text(path, page)
    return path


def _classes(manifest: Manifest, rows: pd.DataFrame) -> Classes:
    """The classes that have a row; without a label, all rows as one."""
    names = manifest.label.classes
    if not names or not len(rows):
        return {"all images": np.ones(len(rows), np.bool_)}
    is_in = one_hot(np.array(rows["target"].tolist()), len(names))
    found: Classes = {name: is_in[:, place] for place, name in enumerate(names)}
    return {name: mine for name, mine in found.items() if mine.any()} or {
        "without a label": np.ones(len(rows), np.bool_)
    }


def _head(manifests: Sequence[Manifest], dropped: int) -> Iterator[Markup]:
    first = manifests[0]
    examples = sum(part.examples for part in first.parts)
    groups = sum(part.groups for part in first.parts)
    failed = sum(first.failures.values())
    sizes = ", ".join(str(manifest.size) for manifest in manifests if manifest.size is not None)
    figures = [
        (f"{examples:,}", "images" if sizes else "examples"),
        (f"{groups:,}", "groups"),
        (f"{len(first.parts):,}", "parts"),
        (f"{len(first.shards):,}", "shards"),
        *([(sizes, "px")] if sizes else []),
        (f"{failed:,}", "rows failed"),
        (f"{dropped:,}", "rows left out"),
    ]
    yield tag("h1", None, first.name)
    yield tag(
        "ul", {"class": "figures"},
        *(tag("li", None, tag("b", None, number), f" {what}") for number, what in figures),
    )  # fmt: skip
    for manifest in manifests:
        if manifest.enlarged:
            text = (
                f"{counted(manifest.enlarged, 'image')} smaller than {manifest.size} px: enlarged."
            )
            yield tag("p", {"class": "warning"}, text)


def _parts(manifest: Manifest) -> Iterator[Markup]:
    """A chart a measure: every part on one scale, from 0, so equal bars are equal parts."""
    measures: list[tuple[str, list[int]]] = [
        ("images", [part.examples for part in manifest.parts]),
        ("groups", [part.groups for part in manifest.parts]),
    ]
    for name in manifest.label.classes[:SERIES]:
        measures.append((f"class {name}", [part.classes.get(name, 0) for part in manifest.parts]))
    charts = []
    for place, (name, counts) in enumerate(measures):
        bars = [
            Bar(label=part, values=(count,), text=f"{count:,}")
            for part, count in zip(manifest.part_names, counts, strict=True)
        ]
        least, most = min(counts), max(counts)
        spread = f"{least:,}" if least == most else f"{least:,}–{most:,}"
        caption = f"{name}: {sum(counts):,}, {spread} a part"
        series = place - 2 if place > 1 else SERIES  # the classes' own colours, or none
        charts.append(figure(caption, bar_chart(bars, series)))
    yield _section("Parts", charts)


def _failures(manifest: Manifest) -> Iterator[Markup]:
    if not manifest.failures:
        return
    bars = [
        Bar(label=reason, values=(count,), text=f"{count:,}")
        for reason, count in sorted(manifest.failures.items(), key=lambda item: -item[1])
    ]
    yield _section("Rows that failed", [figure("rows by reason; failed.csv has their ids",
                                               bar_chart(bars, 1))])  # fmt: skip


def _sizes(sample: Sample | None) -> Iterator[Markup]:
    if sample is None:
        return
    sizes, counts = np.unique(
        np.stack([sample.widths, sample.heights], axis=1), axis=0, return_counts=True
    )
    most = np.argsort(-counts, kind="stable")[:_MOST_VALUES]
    bars = [
        Bar(
            label=f"{sizes[place][0]}×{sizes[place][1]}",
            values=(float(counts[place]),),
            text=f"{counts[place] / counts.sum():.1%}",
        )
        for place in most
    ]
    of_how_many = f"{counts.sum():,} sources"
    charts = [figure(f"width and height of {of_how_many}, px",
                     size_chart(sample.widths, sample.heights)),
              figure(f"the commonest sizes (of {len(sizes):,}), share of {of_how_many}",
                     bar_chart(bars, SERIES))]  # fmt: skip
    yield _section("Source images", charts)


def _metadata(manifest: Manifest, rows: pd.DataFrame, classes: Classes) -> Iterator[Markup]:
    """Shares within each class: where they differ, the column alone tells something of the label.

    With more classes than colours, shares of all rows.
    """
    if not len(rows):
        return
    if len(classes) > SERIES:
        classes = {"all classes": np.ones(len(rows), np.bool_)}
    charts, missing = [], []
    for feature in with_role(manifest.features, "category"):
        values = rows[table_column(feature.name)].to_numpy(object)
        missing.append((feature.name, float(np.mean(values == ""))))
        charts.append(_category_figure(feature.name, values, classes))
    for feature in with_role(manifest.features, "number"):
        numbers = rows[table_column(feature.name)].to_numpy(np.float64)
        missing.append((feature.name, float(np.mean(np.isnan(numbers)))))
        charts += _number_figure(feature.name, numbers, classes)
    if not charts:
        return
    bars = [Bar(label=name, values=(share,), text=f"{share:.1%}") for name, share in missing]
    charts.append(figure("missing, share of all rows", bar_chart(bars, SERIES, largest=1)))
    # Charts of any height, so in columns, not in rows.
    columns = tag("div", {"class": "columns"}, *charts)
    head = tag("h2", None, "Metadata")
    yield tag("section", None, head, legend(list(classes)), columns)


def _category_figure(name: str, values: npt.NDArray[np.object_], classes: Classes) -> Markup:
    codes, found = pd.factorize(values)
    counts = np.stack(
        [np.bincount(codes[is_in], minlength=len(found)) for is_in in classes.values()]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    order = sorted(range(len(found)), key=lambda place: (-counts[:, place].sum(), found[place]))
    bars = [
        Bar(
            label=str(found[place]) or "(missing)",
            values=tuple(map(float, shares[:, place])),
            text=f"{counts[:, place].sum():,}",
        )
        for place in order[:_MOST_VALUES]
    ]
    caption = f"{name}: share within the class"
    if len(found) > _MOST_VALUES:
        caption += f", the commonest of {len(found):,} values"
    return figure(caption, bar_chart(bars))


def _number_figure(
    name: str, numbers: npt.NDArray[np.float64], classes: Classes
) -> Iterator[Markup]:
    known = np.isfinite(numbers)
    if not known.any():
        return
    # Ages in steps of 5 leave every fifth of finer bins empty.
    bins = min(_BINS, len(np.unique(numbers[known])))
    edges = np.histogram_bin_edges(numbers[known], bins)
    shares = []
    for is_in in classes.values():
        counts, _ = np.histogram(numbers[known & is_in], edges)
        shares.append(counts / max(int(counts.sum()), 1))
    yield figure(f"{name}: share within the class", histogram_chart(edges, shares))


def _sheets(manifest: Manifest, sample: Sample | None, classes: Classes) -> Iterator[Markup]:
    """Thumbnails of each class, as they are in the smallest records."""
    if sample is None:
        return
    for name, thumbnails in sample.sheets.items():
        pictures = []
        for picture in thumbnails:
            data = base64.b64encode(picture.jpeg).decode()
            image = tag("img", {
                "src": f"data:image/jpeg;base64,{data}", "alt": picture.id, "title": picture.id,
                "width": picture.width, "height": picture.height,
            })  # fmt: skip
            pictures.append(
                tag("figure", None, image, tag("figcaption", None, picture.id.rpartition("/")[2]))
            )
        count = int(classes[name].sum())
        head = tag(
            "h3",
            None,
            f"class {name}" if name in manifest.label.classes else name,
            tag("small", None, f" {len(pictures)} of {count:,}"),
        )
        yield tag("section", None, head, tag("div", {"class": "sheet"}, *pictures))


def _digests(manifests: Sequence[Manifest]) -> Iterator[Markup]:
    lines = [("plan", manifests[0].plan_digest)]
    lines += [(f"{manifest.size} px", manifest.render_digest) for manifest in manifests]
    lines += sorted(manifests[0].versions.items())
    cells = [
        tag("tr", None, tag("th", None, name), tag("td", None, tag("code", None, value)))
        for name, value in lines
    ]
    table = tag("table", None, *cells)
    yield tag("section", None, tag("h2", None, "Digests and versions"), table)


def _section(title: str, charts: Sequence[Markup]) -> Markup:
    return tag("section", None, tag("h2", None, title), tag("div", {"class": "charts"}, *charts))
