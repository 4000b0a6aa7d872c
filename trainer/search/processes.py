"""Trials in processes of their own, some side by side, and none that outlives the search.

A process a trial: TensorFlow's memory and global state start clean, and a trial that crashes, or is
killed for want of memory, ends alone. `launching` starts them on this machine; another `Launch` may
start them elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pipeline import storage
from pipeline.errors import SettingsError
from trainer.search.trials import Trial

LOCK_NAME = "search.lock"
OUTPUT_NAME = "output.txt"  # what the trial's processes printed
_TASK = (sys.executable, "-m", "trainer.search.trial_process")
_LOOK_EVERY_S = 0.05


class Process(Protocol):
    """What a trial's process can do; a `subprocess.Popen` can."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def terminate(self) -> None:
        """Asks it to save and leave."""

    def wait(self) -> int:
        """The exit code, once it has ended."""


# A trial's folder, the words for `trainer.task`, and the cores it may use (None: all).
Launch = Callable[[str, Sequence[str], Sequence[int] | None], Process]


@contextlib.contextmanager
def launching(folder: str) -> Iterator[Launch]:
    """Processes on this machine; one search at a time works in a folder.

    The lock is the processes' as well: it lasts until the last of them has ended, whatever became
    of the search.

    Raises:
      SettingsError: another search works there.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(storage.locked(storage.join(folder, LOCK_NAME)))
        except BlockingIOError as error:
            raise SettingsError(
                f"{folder}: no other search must be at work here, got one, or a trial of one that "
                "is about to end; wait for it, or give another --run"
            ) from error
        assert lock is not None  # `search` has refused what is not on this machine
        search_ended, search_runs = os.pipe()  # the second end is this process's alone
        stack.callback(os.close, search_ended)
        stack.callback(os.close, search_runs)
        yield functools.partial(_start, lock, search_ended)


def run_trials(
    trials: Sequence[Trial],
    start: Callable[[Trial, Sequence[int] | None], Process],
    *,
    parallel: int,
    ended: Callable[[Trial, int, float], None],
) -> None:
    """Runs the trials in order, so many at a time; `ended` is told exit code and seconds of each.

    `start` is given a trial and the cores that it may use (None: all).
    Whatever it is broken off by, it first asks the trials under way to leave and waits for them.
    """
    waiting, places = list(trials), shared_cores(parallel)
    running: dict[int, tuple[Trial, Process, float]] = {}  # by place
    try:
        while waiting or running:
            for place, cores in enumerate(places):
                if place not in running and waiting:
                    trial = waiting.pop(0)
                    running[place] = (trial, start(trial, cores), time.monotonic())
            time.sleep(_LOOK_EVERY_S)
            for place, (trial, process, start_s) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[place]
                    ended(trial, code, time.monotonic() - start_s)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.wait()


def shared_cores(parallel: int) -> list[list[int] | None]:
    """The cores of each place: all of them for one, else a share, each core in one of them.

    TensorFlow, its input pipelines and our own threads count the cores they may use; told to
    share, they would each start a thread for every core.

    Raises:
      SettingsError: there are fewer cores.
    """
    if parallel == 1:
        return [None]
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= parallel <= len(cores):
        raise SettingsError(f"--parallel must be in 1..{len(cores)} (the cores), got {parallel}")
    return [cores[place::parallel] for place in range(parallel)]


def failure_of(code: int, folder: str) -> str:
    """In a line, why a trial's process ended with an exit code: the last that it printed."""
    if code < 0:
        memory = ", as the kernel does where memory runs out" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}"
    path = storage.join(folder, OUTPUT_NAME)
    text = storage.read_bytes(path).decode(errors="replace") if storage.exists(path) else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1] if lines else 'it printed nothing'}"


def _start(
    lock: int, search_ended: int, folder: str, words: Sequence[str], cores: Sequence[int] | None
) -> Process:
    with Path(storage.join(folder, OUTPUT_NAME)).open("ab") as output:
        process = subprocess.Popen(
            [*_TASK, *words],
            stdin=search_ended,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},  # what it says is there if it is killed
            start_new_session=True,  # Ctrl-C is for the search, which then asks once
        )
    if cores is not None:
        os.sched_setaffinity(process.pid, cores)
    return process
