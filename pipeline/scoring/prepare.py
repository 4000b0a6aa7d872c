"""One shard of rows → the JPEGs that the models take, and the rows that have no picture.

An image of any kind that make_records reads is rendered as the records were, by the same code: the
bytes that a model is given are those that a record of the image would hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import pandas as pd

from pipeline.images.image_error import ImageError
from pipeline.images.render import refuse_enlarged, render
from pipeline.images.source_file import read_source
from pipeline.ordered import map_ordered
from pipeline.records.done import Failure
from pipeline.records.features import table_column
from pipeline.scoring.exported import Column, Rendering


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the models are to score of one shard: N rows, in order."""

    shard: int
    rows: list[int]
    jpegs: dict[Rendering, list[bytes]]  # N of each
    metadata: dict[str, list[Any]]  # by column: N texts, "" for missing, or floats, NaN for missing
    failures: list[Failure]


def prepare_shard(
    shard: int,
    rows: pd.DataFrame,
    root: str,
    renderings: Sequence[Rendering],
    columns: Mapping[str, Column],
    pool: Executor,
    on_failure: Callable[[], None] = lambda: None,
) -> Prepared:
    """Reads and renders the rows of a shard, on all threads of the pool."""
    kept: list[bool] = []
    jpegs: dict[Rendering, list[bytes]] = {rendering: [] for rendering in renderings}
    failures = []
    sources = zip(rows["row"].tolist(), rows["path"].tolist(), strict=True)
    for result in map_ordered(pool, lambda row: prepare(root, *row, renderings), sources):
        kept.append(not isinstance(result, Failure))
        if isinstance(result, Failure):
            failures.append(result)
            on_failure()
            continue
        for rendering, jpeg in result.items():
            jpegs[rendering].append(jpeg)
    there = rows[kept]
    return Prepared(
        shard=shard,
        rows=there["row"].tolist(),
        jpegs=jpegs,
        metadata={name: _values(there, column) for name, column in columns.items()},
        failures=failures,
    )


def prepare(
    root: str, row: int, path: str, renderings: Sequence[Rendering]
) -> dict[Rendering, bytes] | Failure:
    """The JPEG of each rendering, or why there is none; a row is scored by all models or by none.

    A source is decoded once for the sizes that are rendered alike.
    """
    jpegs = {}
    try:
        data = read_source(root, path)
        for spec in dict.fromkeys(rendering.spec for rendering in renderings):
            sizes = [rendering.size for rendering in renderings if rendering.spec == spec]
            rendered = render(data, sizes, spec)
            for size in sizes:
                refuse_enlarged(rendered, size, spec)
                jpegs[Rendering(size, spec)] = rendered.images[size]
    except ImageError as error:
        return Failure(row=row, reason=error.reason, text=error.text)
    except Exception as error:
        error.add_note(f"while reading row {row}")
        raise
    return jpegs


def _values(rows: pd.DataFrame, column: Column) -> list[Any]:
    name = table_column(column.name)
    if name in rows:
        return list(rows[name].tolist())
    return [float("nan") if column.known is None else ""] * len(rows)
