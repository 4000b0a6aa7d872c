"""A lock of many machines: an object that says who holds it, written again while it is held.

An object store lets no lock go when its holder dies. So a lock is a lease: its holder writes it
again every `RENEW_S`, and who wants it watches: one that stays the same for `LEASE_S` has lost its
holder. No two machines' clocks are compared. A holder on this machine is asked for at once, so that
a command which was killed can be given again without a pause.

A renewal that is not answered soon is given up and tried again: one that hangs does not outlive the
lease. A holder whose lease was taken ends at once, by exit code 143, its child processes before it,
and writes nothing: what lies under its names is the new holder's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path

from pipeline.children import kill_children
from pipeline.storage import local
from pipeline.storage.backend import ABSENT, Version
from pipeline.storage.gcs_requests import delete_object, download, find_object, upload, written_by

RENEW_S = 15.0
LEASE_S = 60.0
LEAVE_S = 5.0  # for what a process that lost its lease still does
_HELD: set[str] = set()  # the tokens of this process
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Holds the lease of `path`; BlockingIOError while another process does.

    A process that could not renew in time, and whose lease another has taken, ends within it: at
    once, without unwinding, so that no handler and no `finally` writes over the other's files.
    """
    token = secrets.token_hex(8)
    owner = {"machine": _machine(), "process": os.getpid(), "token": token}
    text = json.dumps(owner).encode()
    _HELD.add(token)
    try:
        generation = _acquire(path, text, token)
        ended = threading.Event()
        renewer = _Renewer(path, text, token, generation, ended)
        renewer.start()
        try:
            yield
        finally:
            ended.set()
            renewer.join()
            ours = written_by(token, path)  # maybe of a renewal whose answer was lost
            if ours is not None:
                delete_object(path, only=ours)
    finally:
        _HELD.discard(token)


def _acquire(path: str, text: bytes, token: str) -> Version:
    generation = upload(path, BytesIO(text), ABSENT, writer=token)
    if generation is None:
        found = _abandoned(path)
        generation = upload(path, BytesIO(text), found, writer=token)
    if generation is None:
        raise BlockingIOError(f"{path}: held by another process")
    return generation


def _abandoned(path: str) -> Version:
    """The generation of a lease without a holder; BlockingIOError when it has one."""
    found = find_object(path)
    if found is None:
        return ABSENT
    with contextlib.suppress(FileNotFoundError):
        owner = json.loads(download(path))
        if owner["machine"] == _machine():
            if _is_there(owner["process"], owner["token"]):
                raise BlockingIOError(f"{path}: held by process {owner['process']}")
            return found.generation
    _log.warning("%s: watched for %g s, for its holder may be gone", path, LEASE_S)
    give_up = time.monotonic() + LEASE_S
    while time.monotonic() < give_up:
        time.sleep(RENEW_S / 5)
        now = find_object(path)
        if now is None or now.generation != found.generation:
            raise BlockingIOError(f"{path}: held by another process")
    return found.generation


def _is_there(process: int, token: str) -> bool:
    # In containers the next process often has the number of the last.
    return token in _HELD if process == os.getpid() else local.is_alive(process)


def _machine() -> str:
    """Of this boot and these process numbers: elsewhere the same number is another process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    numbers = Path("/proc/self/ns/pid")
    try:
        return f"{platform.node()} {boot.read_text().strip()} {numbers.readlink()}"
    except OSError:  # no Linux: then only the lease tells
        return f"{platform.node()} {secrets.token_hex(8)}"


class _Renewer(threading.Thread):
    """Writes a lease again until it has ended."""

    def __init__(
        self, path: str, text: bytes, token: str, generation: Version, ended: threading.Event
    ) -> None:
        super().__init__(name="lease", daemon=True)
        self._path, self._text, self._token, self._ended = path, text, token, ended
        self.generation = generation

    def run(self) -> None:
        """The thread's work."""
        pause_s = RENEW_S
        while not self._ended.wait(pause_s):
            try:
                generation = upload(
                    self._path,
                    BytesIO(self._text),
                    self.generation,
                    writer=self._token,  # an earlier try whose answer was lost is ours
                    # For the connection and for the answer: three tries fit into a lease.
                    timeout_s=RENEW_S / 3,
                )
            except Exception as error:  # of whatever kind: a thread that died would renew no more
                _log.warning("the lease is not renewed, and will be tried again: %s", error)
                pause_s = RENEW_S / 3
                continue
            if generation is None:
                _leave(self._path)
            else:
                self.generation, pause_s = generation, RENEW_S


def _leave(path: str) -> None:
    """Ends a process whose lease another holds, whatever becomes of the rest.

    Its child processes go first, and what it has half written on this machine; then it says so.
    """
    try:
        late = threading.Timer(LEAVE_S, os._exit, (143,))  # a stderr that nobody reads may be full
        late.daemon = True
        late.start()
        stderr, sys.stderr = sys.stderr, StringIO()  # of threads that see their workers killed
        kill_children()
        with contextlib.suppress(OSError):
            local.discard_unfinished()
        print(
            f"{path}: the lease was lost: not renewed for {LEASE_S:g} s, and another process holds "
            "it, or it was removed. This process ends and writes nothing more; let the other go "
            "on, or end it and give this command again",
            file=stderr,
            flush=True,
        )
    finally:
        os._exit(143)
