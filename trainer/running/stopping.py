"""SIGTERM and Ctrl-C: training finishes the compiled call it is in, saves, and leaves.

`trainer.task` listens while folds train, `trainer.predict` while they predict;
`trainer.running.epochs` shields what must not be broken off in its middle. Vertex AI and Kubernetes
send SIGTERM, and SIGKILL some 30 s later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from pipeline import storage

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGAIN_S = 0.05


class Stopped(BaseException):
    """The process was asked to leave. Not an Exception: nothing on the way may take it for one."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number  # 143 for SIGTERM, 130 for Ctrl-C, as a shell has it


class Stopping:
    """Whether to stop, and when: at the end of a `shielded` block, elsewhere at once."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._is_shielded = False
        self._hook = sys.unraisablehook
        self._echoes = 0  # signals of our own making that the watching thread is about to read

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, a first signal stops as the class says; a second ends the process.

        Python runs a handler only when the call it is in returns, which may be a minute's training.
        The byte that the C half writes for each signal arrives at once: a thread counts them.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._end_at_second, args=(reading,), daemon=True)
        watcher.start()
        self._hook, sys.unraisablehook = sys.unraisablehook, self._again
        try:
            yield
            if self._asked is not None:
                raise Stopped(self._asked)  # whoever was to pass it on did not
        finally:
            sys.unraisablehook = self._hook
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)  # the thread reads the end, and ends
            watcher.join()

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Within it a signal waits; at its end it raises `Stopped`."""
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False
        if self._asked is not None:
            raise Stopped(self._asked)

    @property
    def is_asked(self) -> bool:
        """True once a signal has come; read within a shielded block."""
        return self._asked is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if not self._is_shielded:
            raise Stopped(number)

    def _again(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Python discards what is raised in a finaliser or a callback of its garbage collector."""
        if isinstance(unraisable.exc_value, Stopped) and self._asked is not None:
            self._echoes += 1
            # Not at once: it would be raised, and discarded, in here.
            again = (threading.main_thread().ident, self._asked)
            threading.Timer(_AGAIN_S, signal.pthread_kill, again).start()
        else:
            self._hook(unraisable)

    def _end_at_second(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as signals:
            count = 0
            while byte := signals.read(1):
                if self._echoes:
                    self._echoes -= 1
                    continue
                count += byte[0] in SIGNALS
                if count == 2:
                    storage.discard_unfinished()
                    os._exit(128 + byte[0])


def run_stoppable(name: str, job: Callable[[Stopping], int], *, is_kept: bool = True) -> int:
    """The exit code of `job`, or that of the signal that stopped it, told on stderr.

    With `is_kept` the job goes on where it was stopped, else it begins anew.
    """
    stopping = Stopping()
    try:
        with stopping.listening():
            return job(stopping)
    except Stopped as stopped:
        outlook = "the same command again goes on from here"
        if not is_kept:
            outlook = "nothing was kept, and the same command begins anew"
        print(f"{name}: {stopped}; {outlook}", file=sys.stderr)
        return stopped.exit_code
