"""What is known of a shard that was written: the memory of a job that may be killed at any moment.

`pipeline.records.write` leaves a `ShardDone` after each shard; a job that is run again keeps the
shards that are there as they should be; `pipeline.records.commit` makes the manifest of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from typing import Any

import cv2
import PIL
import simplejpeg

from pipeline import storage
from pipeline.errors import DataError
from pipeline.images.render import RenderSpec
from pipeline.records.manifest import MANIFEST_NAME
from pipeline.settings import differences


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
    size: int | None  # px; None for records without images
    plan_digest: str
    render_digest: str
    examples: int
    bytes: int
    sha256: str
    pixel_counts: list[list[int]]  # [3, 256]: pixels of each value, by channel
    enlarged: int  # examples whose source was smaller than the size
    failures: list[Failure]


class SizeError(DataError):
    """A size is there already, and of other settings."""


def render_digest(spec: RenderSpec, size: int | None) -> str:
    """SHA-256 of all that decides a size's pixels beside the sources: fit, quality, codecs."""
    settings = {**render_settings(spec), "size": size}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def render_settings(spec: RenderSpec) -> dict[str, Any]:
    """What every size is rendered with, as plain tables."""
    return {**dataclasses.asdict(spec), "codecs": codec_versions()}


def claim_size(output: str, size: int | None, spec: RenderSpec) -> None:
    """Says in `plan/done/SIZE/render.json` what the size is rendered with.

    Raises:
      SizeError: it was begun with other settings, or other versions of the codecs.
    """
    path = storage.join(done_folder(output, size), "render.json")
    settings = render_settings(spec)
    if storage.write_new(path, json.dumps(settings, indent=1) + "\n"):
        return
    differing = differences(json.loads(storage.read_bytes(path)), settings)
    if differing:
        raise SizeError(
            f"{size_folder(output, size)}: the size must be rendered as it was begun, got other "
            f"{', '.join(differing)}; write into another --output, or give --overwrite to make "
            "this size afresh"
        )


def discard_size(output: str, size: int | None) -> None:
    """Removes all of one size, its manifest first: what is left is never taken for complete."""
    folder = size_folder(output, size)
    storage.remove(storage.join(folder, MANIFEST_NAME))
    storage.remove_tree(done_folder(output, size))
    storage.remove_tree(folder)


def discard_plan(output: str) -> None:
    """Removes the plan and every size that was begun under it."""
    for name in storage.list_names(storage.join(output, "plan", "done")):
        discard_size(output, int(name) if name.isdigit() else None)
    storage.remove_tree(storage.join(output, "plan"))


def codec_versions() -> dict[str, str]:
    """The libraries whose release may change a pixel."""
    return {
        "simplejpeg": simplejpeg.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "pydicom": importlib.metadata.version("pydicom"),  # its import is slow, and rarely needed
    }


def size_name(size: int | None) -> str:
    """The name of a size's folder."""
    return "values" if size is None else str(size)


def size_folder(output: str, size: int | None) -> str:
    """Where a size's shards and manifest are."""
    return storage.join(output, size_name(size))


def done_folder(output: str, size: int | None) -> str:
    """Where the `ShardDone` of a size's shards are."""
    return storage.join(output, "plan", "done", size_name(size))


def done_path(output: str, size: int | None, file: str) -> str:
    """Where a shard's `ShardDone` is."""
    return storage.join(done_folder(output, size), f"{file}.json")


def read_done(output: str, size: int | None, file: str) -> ShardDone:
    """What `write_shard` left; FileNotFoundError while the shard is not done."""
    tables = json.loads(storage.read_bytes(done_path(output, size, file)))
    return ShardDone(**{**tables, "failures": [Failure(**f) for f in tables["failures"]]})


def find_finished(
    output: str, size: int | None, file: str, plan_digest: str, digest: str
) -> ShardDone | None:
    """The `ShardDone` of a shard that is there as this plan and rendering want it, else None.

    The file is read whole and its SHA-256 compared: a shard that was damaged since is written anew.
    """
    try:
        done = read_done(output, size, file)
        data = storage.read_bytes(storage.join(size_folder(output, size), file))
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # not done, or a damaged done file
        return None
    if (done.plan_digest, done.render_digest) != (plan_digest, digest):
        return None
    return done if is_whole(data, done.bytes, done.sha256) else None


def is_whole(data: bytes, length: int, sha256: str) -> bool:
    """Whether a file's data is what was written: of that length and SHA-256."""
    return len(data) == length and hashlib.sha256(data).hexdigest() == sha256


def write_done(output: str, done: ShardDone) -> None:
    """Says that a shard is done; called when it is there under its name."""
    text = json.dumps(dataclasses.asdict(done)) + "\n"
    storage.write_text(done_path(output, done.size, done.file), text)
