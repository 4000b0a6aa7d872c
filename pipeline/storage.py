"""Where files live: every read and write of the pipeline goes through here.

Writing is all or nothing: a file appears under its name complete, or not at all, whatever kills the
process. Paths are strings, so that an object store can stand behind the same few functions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def join(root: str, *names: str) -> str:
    """`root/name/…`."""
    return str(Path(_local(root), *names))


def exists(path: str) -> bool:
    """True when a file or a folder is there."""
    return Path(_local(path)).exists()


def size_bytes(path: str) -> int:
    """The length of a file; FileNotFoundError when there is none."""
    return Path(_local(path)).stat().st_size


def read_bytes(path: str) -> bytes:
    """The whole file; FileNotFoundError when there is none."""
    return Path(_local(path)).read_bytes()


def open_read(path: str) -> IO[bytes]:
    """The file opened for reading and seeking; for what is larger than memory should hold."""
    return Path(_local(path)).open("rb")


def read_text(path: str) -> str:
    """The whole file as UTF-8."""
    return read_bytes(path).decode("utf-8")


def list_names(folder: str) -> list[str]:
    """The names in a folder, sorted; empty when there is no such folder."""
    local = Path(_local(folder))
    return sorted(entry.name for entry in local.iterdir()) if local.is_dir() else []


def write_bytes(path: str, data: bytes) -> None:
    """Writes the file whole; one that is there is replaced."""
    with writing(path) as file:
        file.write(data)


def write_text(path: str, text: str) -> None:
    """Writes the file whole as UTF-8; one that is there is replaced."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """A binary file that appears as `path` when the block ends, and leaves nothing when it raises.

    The data is on the disk before the name is (fsync, then rename), so a machine that loses power
    leaves no short file under a good name. The temporary name holds the process and is never read.
    """
    target = Path(_local(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _local(path: str) -> str:
    if "://" in path:
        raise ValueError(f"storage: path must be a local one in this version, got {path!r}")
    return path
