"""A signal ends a job cleanly, also in the moment in which a worker ends by itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beam_jobs import local


@pytest.fixture
def left(monkeypatch):
    """The codes with which the process would have left."""
    codes = []

    def leave(code):
        codes.append(code)

    monkeypatch.setattr(local.os, "_exit", leave)
    return codes


def test_a_worker_that_has_just_ended_does_not_keep_the_others_alive(left, monkeypatch, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    listed = iter([[gone.pid, alive.pid], []])
    monkeypatch.setattr(local, "_child_processes", lambda: next(listed))
    with local.stopping_cleanly([]):
        signal.raise_signal(signal.SIGTERM)
    assert left == [143]
    with pytest.raises(ProcessLookupError):
        os.kill(alive.pid, 0)
    alive.returncode = -signal.SIGKILL  # waited for by the handler
    assert "the same command again goes on from here" in capsys.readouterr().err


def test_a_thread_that_has_just_ended_hides_no_worker(monkeypatch, tmp_path):
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        there = [*Path("/proc/self/task").glob("*/children")]
        monkeypatch.setattr(Path, "glob", lambda *_: [tmp_path / "gone", *there])
        assert worker.pid in local._child_processes()
    finally:
        worker.kill()
        worker.wait()


BEHIND_A_SHELL = """
import signal, subprocess, sys, time
from beam_jobs import local

worker = "echo $$ > worker.pid; exec sleep 60"
with local.stopping_cleanly([]):
    subprocess.Popen(f"sh -c '{worker}'; true", shell=True)
    while not (found := open("worker.pid", "a+")).tell():
        time.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
"""


def test_a_worker_behind_a_shell_is_gone_before_the_process_leaves(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_A_SHELL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(local.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 143, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "worker.pid").read_text()), 0)
