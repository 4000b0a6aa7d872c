"""The requests to Google Cloud Storage that `pipeline.storage.gcs` is made of.

Each is repeated as `pipeline.storage.gcs_client` says. A transfer that arrives damaged, and an
upload whose session has ended, begin anew at the first byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import secrets
import time
from typing import IO, Any

from google.api_core import exceptions as api
from google.cloud.storage.exceptions import DataCorruption

from pipeline.errors import SettingsError
from pipeline.storage import gcs_client
from pipeline.storage.backend import StorageError, Version
from pipeline.storage.gcs_client import asking, split

_SINGLE_BYTES = 1 << 23  # sent by one request; what is larger, by an upload that can be resumed,
_CHUNK_BYTES = 1 << 24  # in pieces that are sent again where they did not arrive
_ATTEMPTS = 5  # at a transfer as a whole, from its first byte on
_WRITER = "foldstream-writer"  # in an object's metadata: which call wrote it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An object that is there."""

    size: int  # bytes
    generation: Version


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """Objects below a path, by the rest of their names, and their bytes."""

    sizes: dict[str, int]
    folders: list[str]  # of a flat list


def find_object(path: str) -> Found | None:
    """Size and generation of an object, or None."""
    blob = _reloaded(path, _patience(None))
    if blob is None:
        return None
    return Found(size=int(blob.size), generation=Version(str(blob.generation)))


def list_objects(folder: str, *, is_flat: bool = False, most: int | None = None) -> Listed:
    """What is below a folder, markers of folders too; flat: in it, without those markers.

    FileNotFoundError for a bucket that is not there.
    """
    _, name = split(folder)
    prefix = f"{name}/" if name else ""
    with asking(folder) as bucket:
        blobs = bucket.list_blobs(
            prefix=prefix,
            delimiter="/" if is_flat else None,
            max_results=most,
            fields="items(name,size),prefixes,nextPageToken",
            retry=gcs_client.RETRY,
        )
        sizes = {blob.name.removeprefix(prefix): int(blob.size) for blob in blobs}
    if is_flat:
        sizes.pop("", None)
    folders = [found.removeprefix(prefix).rstrip("/") for found in blobs.prefixes]
    return Listed(sizes=sizes, folders=folders)


def download(
    path: str, start: int | None = None, stop: int | None = None, generation: Version | None = None
) -> bytes:
    """The bytes from `start` up to but not with `stop`, of one generation if it is named.

    The object as a whole is held against its CRC-32C.
    """
    if start is not None and start == stop:
        return b""
    _, name = split(path)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with asking(path) as bucket:
                data: bytes = bucket.blob(name).download_as_bytes(
                    start=start,
                    end=None if stop is None else stop - 1,
                    raw_download=True,  # as it is stored, whatever its Content-Encoding
                    checksum="crc32c" if start is None else None,
                    if_generation_match=None if generation is None else int(generation),
                    retry=gcs_client.RETRY,
                )
                return data
        except api.RequestRangeNotSatisfiable:
            if start is not None:
                return b""  # behind the end
            _pause(attempt, path, "a range of it that is not there")
        except DataCorruption as error:
            _pause(attempt, path, str(error))
        except api.PreconditionFailed as error:
            raise StorageError(
                f"{path}: it must stay as it is while it is read, got another in its place; let "
                "one process write here, and give the same command again"
            ) from error
    raise AssertionError("the last pause raises")


def upload(
    path: str,
    file: IO[bytes],
    only_over: Version | None = None,
    *,
    writer: str | None = None,
    timeout_s: float | None = None,
) -> Version | None:
    """Writes the object whole; its generation.

    None, and nothing is written, where another generation than `only_over` is there; unless a call
    of the same `writer` made it, whose answer was lost (without one: this call). With `timeout_s`
    a request that is not answered in that time is one StorageError, and nothing is asked again.
    """
    _, name = split(path)
    if not name:
        raise SettingsError(f"path must be gs://BUCKET/NAME, got {path!r}")
    size, writer = file.seek(0, io.SEEK_END), writer or secrets.token_hex(8)
    patience = _patience(timeout_s)
    for attempt in range(1, _ATTEMPTS + 1):
        file.seek(0)
        try:
            with asking(path) as bucket:
                blob = bucket.blob(name, chunk_size=_CHUNK_BYTES)
                blob.metadata = {_WRITER: writer}
                blob.upload_from_file(
                    file,
                    size=size,
                    content_type="application/octet-stream",
                    if_generation_match=None if only_over is None else int(only_over or 0),
                    checksum="crc32c",
                    **patience,
                )
            return Version(str(blob.generation))
        except api.PreconditionFailed:
            return written_by(writer, path, timeout_s)
        except FileNotFoundError as error:
            # An upload session that has ended looks like a bucket that is not there.
            if size <= _SINGLE_BYTES or attempt == _ATTEMPTS:
                raise StorageError(f"{path}: the bucket must be there, got none") from error
            _pause(attempt, path, "an upload session that has ended")
        except DataCorruption as error:
            _pause(attempt, path, str(error))
    raise AssertionError("the last pause raises")


def written_by(writer: str, path: str, timeout_s: float | None = None) -> Version | None:
    """The generation that is there if `writer` wrote it: the answer to its call may be lost."""
    blob = _reloaded(path, _patience(timeout_s))
    is_ours = blob is not None and (blob.metadata or {}).get(_WRITER) == writer
    return Version(str(blob.generation)) if is_ours else None


def delete_object(path: str, below: str | None = None, *, only: Version | None = None) -> None:
    """Removes an object, if it is of the generation `only`; nothing when there is none.

    `below` is the rest of a name as `list_objects` gives it: empty for a folder's own marker.
    """
    _, name = split(path)
    if below is not None:
        name = f"{name}/{below}" if name else below
    match = None if only is None else int(only)
    with contextlib.suppress(FileNotFoundError, api.PreconditionFailed), asking(path) as bucket:
        bucket.blob(name).delete(if_generation_match=match, retry=gcs_client.RETRY)


def _patience(timeout_s: float | None) -> dict[str, Any]:
    """How long a request waits, and whether it is repeated, as Google's library has it."""
    if timeout_s is None:
        return {"retry": gcs_client.RETRY}
    return {"retry": None, "timeout": timeout_s}


def _reloaded(path: str, patience: dict[str, Any]) -> Any:
    """What the storage says of an object; None without one."""
    _, name = split(path)
    if not name:
        return None
    with contextlib.suppress(FileNotFoundError), asking(path) as bucket:
        blob = bucket.blob(name)
        blob.reload(**patience)
        return blob
    return None


def _pause(attempt: int, path: str, got: str) -> None:
    """Waits before a transfer begins anew; StorageError after the last attempt."""
    if attempt == _ATTEMPTS:
        raise StorageError(
            f"{path}: the transfer must end whole, got {got}, {_ATTEMPTS} times in a row"
        )
    time.sleep(gcs_client.CHANCE.uniform(0, 2**attempt / 4))
