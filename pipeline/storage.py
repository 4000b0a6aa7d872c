"""Where files live: every read and write of the pipeline goes through here.

Writing is all or nothing: a file appears under its name complete, or not at all, whatever kills the
process. Paths are strings, so that an object store can stand behind the same few functions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import SettingsError

_BUFFER_BYTES = 1 << 20  # records of 20 kB go to the disk fifty at a time
_UNFINISHED: set[Path] = set()  # the temporary files of this process


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


def write_new(path: str, text: str) -> bool:
    """Writes the file whole unless one is there; False when another writer was first."""
    with _temporary(Path(_local(path))) as temporary:
        with _written_through(temporary) as file:
            file.write(text.encode("utf-8"))
        try:
            os.link(temporary, _local(path))  # unlike a rename, never replaces
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if exists(path):
                return False
            temporary.replace(_local(path))
    return True


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """A binary file that appears as `path` when the block ends, and leaves nothing when it raises.

    The data is on the disk before the name is (fsync, then rename), so a machine that loses power
    leaves no short file under a good name.
    """
    target = Path(_local(path))
    with _temporary(target) as temporary:
        with _written_through(temporary) as file:
            yield file
        temporary.replace(target)


@contextlib.contextmanager
def locked(path: str) -> Iterator[int]:
    """Holds the lock of a file, which is made if need be; its descriptor.

    Raises BlockingIOError while another process holds it. One that ends in any way lets it go,
    but those that were started with the descriptor keep it.
    """
    target = Path(_local(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def remove_tree(folder: str) -> None:
    """Removes a folder and all that is in it; nothing when there is none."""
    shutil.rmtree(_local(folder), ignore_errors=True)


def remove(path: str) -> None:
    """Removes a file; nothing when there is none."""
    Path(_local(path)).unlink(missing_ok=True)


def discard_unfinished() -> None:
    """Removes what this process is writing at this moment: the last thing before it is stopped."""
    for temporary in list(_UNFINISHED):
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str) -> None:
    """Removes what processes that are gone left half written in a folder.

    The name of a temporary file tells machine and process; those of another machine, or of a
    process that is alive, may still be written and stay.
    """
    for temporary in Path(_local(folder)).glob(".*-*-*.tmp"):
        machine, process, _ = temporary.name[1:].rsplit("-", 2)
        if machine == platform.node() and not _is_alive(int(process)):
            temporary.unlink(missing_ok=True)


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


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _local(path: str) -> str:
    if "://" in path:
        raise SettingsError(f"path must be a local one in this version, got {path!r}")
    return path
