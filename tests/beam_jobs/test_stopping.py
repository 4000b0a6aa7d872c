"""A signal ends a job cleanly, also in the moment in which a worker ends by itself."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beam_jobs import local
from beam_jobs.records_job import MakeRecords
from beam_jobs.shards import ShardJob
from pipeline import children
from pipeline.images.render import RenderSpec
from pipeline.records.write import Sources
from pipeline.storage.backend import ABSENT


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
    listed = iter([[gone.pid, alive.pid], [], [], []])  # ours, theirs, and ours again
    monkeypatch.setattr(children, "child_processes", lambda *_: next(listed))
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
        assert worker.pid in children.child_processes()
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("folder", ["32", "plan/done/32"])
def test_what_a_worker_had_half_written_is_removed_in_each_folder_it_writes_to(
    left, tmp_path, folder
):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    half = tmp_path / folder / f".{platform.node()}-{gone.pid}-00000000.tmp"
    half.parent.mkdir(parents=True)
    half.touch()
    job = MakeRecords(
        work=ShardJob(
            output=str(tmp_path),
            sources=Sources(images=None, values=None),
            sizes=(32,),
            render=RenderSpec(),
            threads=1,
        ),
        shards=1,
        rows=1,
        what="images",
        max_failures=0.0,
        before=(ABSENT,),
    )
    with job.watch(in_one_process=True):
        signal.raise_signal(signal.SIGTERM)
    assert left == [143]
    assert not half.exists()


def test_a_job_whose_stderr_nobody_reads_stops_as_well(left, monkeypatch):
    def tell(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", tell)
    with pytest.raises(BrokenPipeError), local.stopping_cleanly([]):
        signal.raise_signal(signal.SIGTERM)
    assert left == [143]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_orphans_are_adopted_no_longer_than_the_job_runs():
    def adopts():
        answer = ctypes.c_int(-1)
        assert ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0) == 0
        return answer.value  # of PR_GET_CHILD_SUBREAPER

    with local.stopping_cleanly([]):
        assert adopts() == 1
    assert adopts() == 0


BEHIND_A_SHELL = """
import signal, subprocess, sys, time
from beam_jobs import local
from beam_jobs.records_job import MakeRecords
from beam_jobs.shards import ShardJob
from pipeline.images.render import RenderSpec
from pipeline.records.write import Sources
from pipeline.storage.backend import ABSENT

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
