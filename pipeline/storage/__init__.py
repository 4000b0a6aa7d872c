"""Where files live: every read and write of the pipeline goes through here.

A path is a text: one of this machine, or `gs://BUCKET/NAME` of Google Cloud Storage. Both keep what
`pipeline.storage.backend` promises, above all that writing is all or nothing: a file appears under
its name complete, or not at all, whatever kills the process.

Raises what the built-in functions raise (FileNotFoundError, …), and `StorageError` where Google
Cloud Storage refuses, or does not answer however often it is asked.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import IO

from pipeline.errors import SettingsError
from pipeline.storage import local
from pipeline.storage.backend import Backend
from pipeline.storage.backend import StorageError as StorageError
from pipeline.storage.backend import Version as Version

_GCS = "gs://"


def join(root: str, *names: str) -> str:
    """`root/name/…`."""
    return _of(root).join(root, *names)


def parent(path: str) -> str:
    """The folder that a path is in."""
    return _of(path).parent(path)


def is_remote(path: str) -> bool:
    """True for a path that is not of this machine: each request to it takes its time."""
    return path.startswith(_GCS) or _of(path) is not local


def refuse_remote(path: str | None, what: str, why: str) -> None:
    """SettingsError where a path must be of this machine, and is not."""
    if path is not None and is_remote(path):
        raise SettingsError(f"{what} must be on this machine, got {path}; {why}")


def is_inside(path: str, folder: str) -> bool:
    """Whether what a path names lies under a folder, wherever links and `..` lead."""
    return resolve(path).startswith(_resolved(folder))


def resolve(path: str) -> str:
    """The path without links and `..`: the same for the same file."""
    return _of(path).resolve(path)


def exists(path: str) -> bool:
    """True when a file or a folder is there."""
    return _of(path).exists(path)


def is_folder(path: str) -> bool:
    """True when a folder is there."""
    return _of(path).is_folder(path)


def size_bytes(path: str) -> int:
    """The length of a file; FileNotFoundError when there is none."""
    return _of(path).size_bytes(path)


def read_bytes(path: str) -> bytes:
    """The whole file; FileNotFoundError when there is none."""
    return _of(path).read_bytes(path)


def read_range(path: str, offset: int, size: int) -> bytes:
    """At most `size` bytes of a file from `offset` on; fewer at its end only."""
    return _of(path).read_range(path, offset, size)


def open_read(path: str) -> IO[bytes]:
    """The file opened for reading and seeking; for what is larger than memory should hold."""
    return _of(path).open_read(path)


def read_text(path: str) -> str:
    """The whole file as UTF-8."""
    return read_bytes(path).decode("utf-8")


def list_names(folder: str) -> list[str]:
    """The names in a folder, sorted; empty when there is no such folder."""
    return sorted(_of(folder).list_names(folder))


def list_sizes(folder: str) -> dict[str, int]:
    """The files in a folder by name, and their bytes; empty when there is no such folder."""
    return _of(folder).list_sizes(folder)


def walk(folder: str) -> Iterator[str]:
    """The path below a folder, with `/`, of each file in it and in its folders; in no order."""
    return _of(folder).walk(folder)


def write_bytes(path: str, data: bytes) -> None:
    """Writes the file whole; one that is there is replaced."""
    with writing(path) as file:
        file.write(data)


def write_text(path: str, text: str) -> None:
    """Writes the file whole as UTF-8; one that is there is replaced."""
    write_bytes(path, text.encode("utf-8"))


def write_new(path: str, text: str) -> bool:
    """Writes the file whole unless one is there; False when another writer was first."""
    return _of(path).write_new(path, text.encode("utf-8"))


def version(path: str) -> Version:
    """What `write_over` compares; of a file that is not there as well."""
    return _of(path).version(path)


def write_over(path: str, text: str, over: Version) -> bool:
    """Writes the file whole if what is there is what `version` saw; False when it is another."""
    return _of(path).write_over(path, text.encode("utf-8"), over)


def writing(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """A binary file that appears as `path` when the block ends, and leaves nothing when it raises.

    What is under the name is whole also when the machine loses power.
    """
    return _of(path).writing(path)


def locked(path: str) -> contextlib.AbstractContextManager[int | None]:
    """Holds the lock of a file, which is made if need be; its descriptor, if it has one.

    Raises BlockingIOError while another process holds it. One that ends in any way lets it go, but
    those that were started with the descriptor keep it.
    """
    return _of(path).locked(path)


def remove_tree(folder: str) -> None:
    """Removes a folder and all that is in it; nothing when there is none."""
    _of(folder).remove_tree(folder)


def remove(path: str) -> None:
    """Removes a file; nothing when there is none."""
    _of(path).remove(path)


def discard_unfinished() -> None:
    """Removes what this process is writing at this moment: the last thing before it is stopped."""
    local.discard_unfinished()  # an upload that is broken off leaves nothing


def remove_leftovers(folder: str) -> None:
    """Removes what processes that are gone left half written in a folder."""
    if not is_remote(folder):
        local.remove_leftovers(folder)


def _of(path: str) -> Backend:
    if path.startswith(_GCS):
        from pipeline.storage import gcs  # its libraries take half a second to import

        return gcs
    if "://" in path:
        raise SettingsError(f"path must be a local one or gs://BUCKET/NAME, got {path!r}")
    return local


@functools.lru_cache(maxsize=8)
def _resolved(folder: str) -> str:
    return os.path.join(resolve(folder), "")  # noqa: PTH118 (ends in a separator)
