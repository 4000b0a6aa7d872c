"""One shard of the plan → one TFRecord file a size. The pure part of `beam_jobs.make_records`.

A source is read and decoded once for all sizes. Rows are rendered by a pool of threads (decoders
let go of the interpreter's lock) and written in order of position, so neither the number of threads
nor their speed shows in the bytes. A row whose image gives no picture is left out and told of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import cv2
import numpy as np
import PIL
import simplejpeg

from pipeline import storage
from pipeline.dataset.plan import Plan, read_shard_rows
from pipeline.images.image_error import ImageError
from pipeline.images.render import Rendered, RenderSpec, render
from pipeline.ordered import map_ordered
from pipeline.records.example import ExampleCodec
from pipeline.records.features import table_column
from pipeline.records.tfrecord import RecordWriter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A row without a picture."""

    row: int
    reason: str  # a short code, counted in the manifest
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardDone:
    """What was written of one shard at one size: `plan/done/SIZE/FILE.json`."""

    file: str
    size: int
    plan_digest: str
    render_digest: str
    examples: int
    bytes: int
    sha256: str
    pixel_counts: list[list[int]]  # [3, 256]: pixels of each value, by channel
    failures: list[Failure]


def render_digest(spec: RenderSpec, size: int) -> str:
    """SHA-256 of all that decides a size's pixels beside the sources: fit, quality, codecs."""
    settings = {**dataclasses.asdict(spec), "size": size, "codecs": codec_versions()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def codec_versions() -> dict[str, str]:
    """The libraries whose release may change a pixel."""
    return {
        "simplejpeg": simplejpeg.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


def size_folder(output: str, size: int) -> str:
    """Where a size's shards and manifest are."""
    return storage.join(output, str(size))


def done_path(output: str, size: int, file: str) -> str:
    """Where a shard's `ShardDone` is."""
    return storage.join(output, "plan", "done", str(size), f"{file}.json")


def read_done(output: str, size: int, file: str) -> ShardDone:
    """What `write_shard` left; FileNotFoundError while the shard is not done."""
    tables = json.loads(storage.read_bytes(done_path(output, size, file)))
    return ShardDone(**{**tables, "failures": [Failure(**f) for f in tables["failures"]]})


def write_shard(
    output: str,
    images: str,
    plan: Plan,
    shard: int,
    sizes: tuple[int, ...],
    spec: RenderSpec,
    pool: Executor,
    on_row: Callable[[], None] = lambda: None,
) -> list[ShardDone]:
    """Renders and writes shard number `shard` at every size; each file appears whole or not at all.

    `images` is the root of the plan's paths. `on_row` is called after each row, for progress.
    """
    plan_folder = storage.join(output, "plan")
    rows: list[Any] = read_shard_rows(plan_folder, shard).to_dict("records")
    file_name, codec = plan.shards[shard].file, ExampleCodec(plan.features)
    counts = {size: np.zeros((3, 256), np.int64) for size in sizes}
    failures: list[Failure] = []
    with contextlib.ExitStack() as stack:
        writers = {
            size: RecordWriter(
                stack.enter_context(
                    storage.writing(storage.join(size_folder(output, size), file_name))
                )
            )
            for size in sizes
        }
        results = map_ordered(pool, lambda row: _render_row(images, row, sizes, spec), rows)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                rendered, sha256 = result
                values = _values(plan, row, rendered, sha256)
                for size, writer in writers.items():
                    writer.write(codec.encode({**values, "image": rendered.images[size]}))
                    counts[size] += rendered.histograms[size]
            on_row()
    dones = [
        ShardDone(
            file=file_name,
            size=size,
            plan_digest=plan.digest,
            render_digest=render_digest(spec, size),
            examples=writer.examples,
            bytes=writer.bytes,
            sha256=writer.sha256,
            pixel_counts=counts[size].tolist(),
            failures=failures,
        )
        for size, writer in writers.items()
    ]
    for done in dones:  # after every rename: what a done file tells of is there
        text = json.dumps(dataclasses.asdict(done)) + "\n"
        storage.write_text(done_path(output, done.size, file_name), text)
    return dones


def _render_row(
    images: str, row: dict[str, Any], sizes: tuple[int, ...], spec: RenderSpec
) -> tuple[Rendered, str] | Failure:
    try:
        data = _read_source(storage.join(images, row["path"]))
        return render(data, sizes, spec), hashlib.sha256(data).hexdigest()
    except ImageError as error:
        return Failure(row=int(row["row"]), reason=error.reason, text=str(error))
    except Exception as error:
        error.add_note(f"while rendering row {row['row']}")
        raise


def _read_source(path: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing", "there is no such file") from error


def _values(plan: Plan, row: dict[str, Any], rendered: Rendered, sha256: str) -> dict[str, Any]:
    """A record's values by feature name, but for the image."""
    made = {"width": rendered.width, "height": rendered.height, "sha256": sha256}
    values = {}
    for feature in plan.features:
        if feature.role == "image":
            continue
        if feature.role == "source":
            values[feature.name] = made[feature.name]
        elif feature.role in ("id", "group"):
            values[feature.name] = row[feature.role]
        elif feature.role in ("row", "part", "fold", "target"):
            values[feature.name] = row[feature.name]
        else:
            values[feature.name] = row[table_column(feature.name)]
    return values
