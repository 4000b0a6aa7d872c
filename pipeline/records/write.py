"""One shard of the plan → one TFRecord file a size. The pure part of `beam_jobs.make_records`.

A source is read and decoded once for all sizes. Rows are rendered by a pool of threads (decoders
let go of the interpreter's lock) and written in order of position, so neither the number of threads
nor their speed shows in the bytes. A row whose image gives no picture is left out and told of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.dataset.plan import Plan, read_shard_rows
from pipeline.images.image_error import ImageError
from pipeline.images.render import Rendered, RenderSpec, refuse_enlarged, render
from pipeline.images.source_file import read_source
from pipeline.ordered import map_ordered
from pipeline.records.done import (
    Failure,
    ShardDone,
    find_finished,
    render_digest,
    size_folder,
    write_done,
)
from pipeline.records.example import ExampleCodec
from pipeline.records.features import table_column
from pipeline.records.tfrecord import RecordWriter
from pipeline.records.values import ValuesError, ValuesSource, read_values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """What the plan's rows are read from; None where its examples have no such feature."""

    images: str | None  # the root of the plan's paths
    values: ValuesSource | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Content:
    """What a row's sources gave."""

    rendered: Rendered | None
    values: np.ndarray | None  # float32 [D]
    sha256: str  # of the image's bytes, without an image of the vector's


def write_shard(
    output: str,
    sources: Sources,
    plan: Plan,
    shard: int,
    sizes: tuple[int | None, ...],
    spec: RenderSpec,
    pool: Executor,
    on_row: Callable[[], None] = lambda: None,
) -> list[ShardDone]:
    """Renders and writes shard number `shard` at each size that is not there already.

    Each file appears whole or not at all. Examples without an image have the one size None.
    `on_row` is called once a row, for progress.
    """
    file = plan.shards[shard].file
    digests = {size: render_digest(spec, size) for size in sizes}
    found = {size: find_finished(output, size, file, plan.digest, digests[size]) for size in sizes}
    missing = tuple(size for size, done in found.items() if done is None)
    if not missing:
        for _ in range(plan.shards[shard].rows):
            on_row()
        return [done for done in found.values() if done]
    rows: list[Any] = read_shard_rows(storage.join(output, "plan"), shard).to_dict("records")
    counts = {size: np.zeros((3, 256), np.int64) for size in missing}
    enlarged = dict.fromkeys(missing, 0)
    failures: dict[int | None, list[Failure]] = {size: [] for size in missing}
    codec = ExampleCodec(plan.features)
    with contextlib.ExitStack() as stack:
        writers = {
            size: RecordWriter(
                stack.enter_context(storage.writing(storage.join(size_folder(output, size), file)))
            )
            for size in missing
        }
        results = map_ordered(pool, lambda row: _read_row(sources, row, missing, spec), rows)
        for row, result in zip(rows, results, strict=True):
            for size, writer in writers.items():
                failure = _failure_at(result, row, size, spec)
                if failure is not None:
                    failures[size].append(failure)
                    continue
                assert isinstance(result, _Content)
                values = _values(plan, row, result)
                if result.rendered is not None and size is not None:
                    values["image"] = result.rendered.images[size]
                    counts[size] += result.rendered.histograms[size]
                    enlarged[size] += size in result.rendered.enlarged
                writer.write(codec.encode(values))
            on_row()
    for size, writer in writers.items():  # after every rename: what is said to be done is there
        done = ShardDone(
            file=file,
            size=size,
            plan_digest=plan.digest,
            render_digest=digests[size],
            examples=writer.examples,
            bytes=writer.bytes,
            sha256=writer.sha256,
            pixel_counts=counts[size].tolist(),
            enlarged=enlarged[size],
            failures=failures[size],
        )
        write_done(output, done)
        found[size] = done
    return [done for done in found.values() if done]


def _failure_at(
    result: _Content | Failure, row: dict[str, Any], size: int | None, spec: RenderSpec
) -> Failure | None:
    """Why a row is not in the records of one size; each size is judged by itself, so that what it
    holds does not depend on the sizes beside it.
    """
    if isinstance(result, Failure):
        return result
    if result.rendered is not None and size is not None:
        try:
            refuse_enlarged(result.rendered, size, spec)
        except ImageError as error:
            return Failure(row=int(row["row"]), reason=error.reason, text=error.text)
    return None


def _read_row(
    sources: Sources, row: dict[str, Any], sizes: tuple[int | None, ...], spec: RenderSpec
) -> _Content | Failure:
    rendered = values = None
    try:
        if sources.values is not None:
            values, data = read_values(sources.values, row["values_offset"], row["values_bytes"])
        if sources.images is not None:
            data = read_source(sources.images, row["path"])
            rendered = render(data, tuple(size for size in sizes if size is not None), spec)
        sha256 = hashlib.sha256(data).hexdigest()
        return _Content(rendered=rendered, values=values, sha256=sha256)
    except (ImageError, ValuesError) as error:
        return Failure(row=int(row["row"]), reason=error.reason, text=error.text)
    except Exception as error:
        error.add_note(f"while reading row {row['row']}")
        raise


def _values(plan: Plan, row: dict[str, Any], content: _Content) -> dict[str, Any]:
    """A record's values by feature name, but for the image."""
    made: dict[str, Any] = {"sha256": content.sha256, "values": content.values}
    if content.rendered is not None:
        made |= {"width": content.rendered.width, "height": content.rendered.height}
    values = {}
    for feature in plan.features:
        if feature.role == "image":
            continue
        if feature.role in ("source", "values"):
            values[feature.name] = made[feature.name]
        elif feature.role in ("id", "group"):
            values[feature.name] = row[feature.role]
        elif feature.role in ("row", "part", "fold", "target"):
            values[feature.name] = row[feature.name]
        else:
            values[feature.name] = row[table_column(feature.name)]
    return values
