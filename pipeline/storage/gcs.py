"""Objects of Google Cloud Storage, `gs://BUCKET/NAME`.

`pipeline.storage.gcs_requests` asks, and repeats what may pass. An object appears when
its upload is finalised, so nobody meets half of one. A folder is the names that begin with its own;
`NAME/`, the marker by which TensorFlow makes one, counts as a folder and never as a file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import posixpath
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from pipeline.storage.backend import ABSENT, StorageError, Version
from pipeline.storage.gcs_client import split
from pipeline.storage.gcs_lease import held
from pipeline.storage.gcs_requests import (
    Found,
    Listed,
    delete_object,
    download,
    find_object,
    list_objects,
    upload,
)

_BUFFER_BYTES = 1 << 23  # read ahead; a request takes some 50 ms whatever its length
_SPOOL_BYTES = 1 << 23  # of a file being written; more of it goes to the disk until it is whole
_DELETERS = 16  # requests at a time


def join(root: str, *names: str) -> str:
    path = root
    for name in names:
        # A whole path stays one, as it does on this machine.
        path = name if name.startswith("gs://") else f"{path}/{name}"
    bucket, name = split(path)
    return f"gs://{bucket}/{name}" if name else f"gs://{bucket}"


def parent(path: str) -> str:
    bucket, name = split(path)
    return join(f"gs://{bucket}", posixpath.dirname(name))


def resolve(path: str) -> str:
    return join(path)


def exists(path: str) -> bool:
    return find_object(path) is not None or is_folder(path)


def is_folder(path: str) -> bool:
    try:
        found = list_objects(path, most=1)
    except FileNotFoundError:
        return False
    return bool(found.sizes) or not split(path)[1]


def size_bytes(path: str) -> int:
    return _found(path).size


def read_bytes(path: str) -> bytes:
    return download(path)


def read_range(path: str, offset: int, size: int) -> bytes:
    return download(path, offset, offset + size)


def open_read(path: str) -> IO[bytes]:
    found = _found(path)
    if found.size <= _BUFFER_BYTES:
        return io.BytesIO(download(path))  # at once: another may take its place meanwhile
    return io.BufferedReader(_Object(path, found.size, found.generation), _BUFFER_BYTES)


def list_names(folder: str) -> list[str]:
    found = _list(folder)
    return [*found.sizes, *found.folders]


def list_sizes(folder: str) -> dict[str, int]:
    return _list(folder).sizes


def walk(folder: str) -> Iterator[str]:
    return (name for name in list_objects(folder).sizes if not name.endswith("/"))


def write_new(path: str, data: bytes) -> bool:
    return upload(path, io.BytesIO(data), only_over=ABSENT) is not None


def version(path: str) -> Version:
    found = find_object(path)
    return ABSENT if found is None else found.generation


def write_over(path: str, data: bytes, over: Version) -> bool:
    return upload(path, io.BytesIO(data), only_over=over) is not None


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    split(path)  # a path that is none is refused before the work is done
    # Kept until it is whole: an upload whose session ends must begin at the first byte again.
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
        yield file
        upload(path, file)


def locked(path: str) -> contextlib.AbstractContextManager[None]:
    return held(path)


def remove_tree(folder: str) -> None:
    try:
        names = list_objects(folder).sizes
    except FileNotFoundError:
        return
    with ThreadPoolExecutor(_DELETERS) as pool:
        for _ in pool.map(lambda name: delete_object(folder, name), names):
            pass


def remove(path: str) -> None:
    delete_object(path)


class _Object(io.RawIOBase):
    """One generation of an object, read by stretches."""

    def __init__(self, path: str, size: int, generation: Version) -> None:
        super().__init__()
        self._path, self._size, self._generation = path, size, generation
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "place in a file must be 0 or more", self._path)
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(self._size)  # the base class would ask for 8 kB at a time

    def _read(self, most: int) -> bytes:
        stop = min(self._at + most, self._size)
        if stop <= self._at:
            return b""
        data = download(self._path, self._at, stop, self._generation)
        if len(data) != stop - self._at:
            raise StorageError(
                f"{self._path}: bytes {self._at}–{stop} must be {stop - self._at}, got {len(data)}"
            )
        self._at = stop
        return data


def _found(path: str) -> Found:
    found = find_object(path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such object", path)
    return found


def _list(folder: str) -> Listed:
    try:
        return list_objects(folder, is_flat=True)
    except FileNotFoundError:
        return Listed(sizes={}, folders=[])
