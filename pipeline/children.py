"""Parent and child processes that must not outlive one another.

On Linux; elsewhere no children are found, and none is told of its parent's end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h


def kill_children() -> None:
    """Ends all of them at once, and returns when they are gone: what they wrote has no owner then.

    Those whose own parents ended are waited for only within `adopting_orphans`.
    """
    while children := child_processes():  # until those are gone, too, whose parents were
        for process in [*_with_descendants(children)]:  # none lives to see another's end
            with contextlib.suppress(OSError):  # it has just ended by itself
                os.kill(process, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def child_processes(of: int | None = None) -> list[int]:
    """The processes that one started, None: this one, and that have not been waited for."""
    children = []
    with contextlib.suppress(OSError):  # the process has just ended
        for thread in Path(f"/proc/{of or 'self'}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the thread has
                children += [int(word) for word in thread.read_text().split()]
    return children


def _with_descendants(processes: list[int]) -> Iterator[int]:
    for process in processes:
        yield process
        yield from _with_descendants(child_processes(process))


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """While the block runs, this process is the parent of those below it whose own parent ends.

    Beam starts a worker by a shell, which may stay between: killed, it would leave it to nobody.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)


def end_with_parent(parent: int) -> None:
    """Ends this process when its parent, of that id, ends, whatever it is doing by then.

    Asks Linux for it: a thread that watched would get no turn while a compiler works.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be asked for
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
