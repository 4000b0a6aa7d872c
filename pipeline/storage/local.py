"""Files of this machine, and of what is mounted on it.

A file is written under a name of its own beside the one it is to have, synced to the disk and then
renamed, so a machine that loses power leaves no short file under a good name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.storage.backend import ABSENT, Version

_BUFFER_BYTES = 1 << 20  # records of 20 kB go to the disk fifty at a time
_UNFINISHED: set[Path] = set()  # the temporary files of this process


def join(root: str, *names: str) -> str:
    return str(Path(root, *names))


def parent(path: str) -> str:
    return str(Path(path).parent)


def resolve(path: str) -> str:
    return os.path.realpath(path)


def exists(path: str) -> bool:
    return Path(path).exists()


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


def size_bytes(path: str) -> int:
    return Path(path).stat().st_size


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def read_range(path: str, offset: int, size: int) -> bytes:
    with open_read(path) as file:
        file.seek(offset)
        return file.read(size)


def open_read(path: str) -> IO[bytes]:
    return Path(path).open("rb")


def list_names(folder: str) -> list[str]:
    local = Path(folder)
    return [entry.name for entry in local.iterdir()] if local.is_dir() else []


def list_sizes(folder: str) -> dict[str, int]:
    if not Path(folder).is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def walk(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        for name in names:
            yield Path(where, name).relative_to(folder).as_posix()


def write_new(path: str, data: bytes) -> bool:
    with _temporary(Path(path)) as temporary:
        with _written_through(temporary) as file:
            file.write(data)
        try:
            os.link(temporary, path)  # unlike a rename, never replaces
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if exists(path):
                return False
            temporary.replace(path)
    return True


def version(path: str) -> Version:
    try:
        return Version(hashlib.sha256(read_bytes(path)).hexdigest())
    except FileNotFoundError:
        return ABSENT


def write_over(path: str, data: bytes, over: Version) -> bool:
    with _temporary(Path(path)) as temporary:
        with _written_through(temporary) as file:
            file.write(data)
        with _alone_in(Path(path).parent):
            if version(path) != over:
                return False
            temporary.replace(path)
    return True


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    target = Path(path)
    with _temporary(target) as temporary:
        with _written_through(temporary) as file:
            yield file
        temporary.replace(target)


@contextlib.contextmanager
def locked(path: str) -> Iterator[int]:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def remove_tree(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def discard_unfinished() -> None:
    """Removes the temporary files of this process."""
    for temporary in list(_UNFINISHED):
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str) -> None:
    """Removes the temporary files of processes that are gone.

    A name tells machine and process; those of another machine, or of a process that is alive, may
    still be written and stay.
    """
    for temporary in Path(folder).glob(".*-*-*.tmp"):
        machine, process, _ = temporary.name[1:].rsplit("-", 2)
        if machine == platform.node() and not is_alive(int(process)):
            temporary.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside `target` that no other writer has, and that is gone when the block ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not the target's name: a pattern such as `*.tfrecord-*` must not find it.
    name = f".{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporary = target.with_name(name)
    _UNFINISHED.add(temporary)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        _UNFINISHED.discard(temporary)


@contextlib.contextmanager
def _written_through(path: Path) -> Iterator[IO[bytes]]:
    """A file whose data is on the disk when the block ends."""
    with path.open("wb", buffering=_BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Within it no other process is in such a block of the same folder; it leaves no file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
