"""A lock on gs:// is held by one process, and let go of whoever is gone."""

import json
import os
import subprocess
import sys
import time

import pytest

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.scoring.work import alone_in, remove_work, work_folder
from pipeline.storage import gcs_lease

pytestmark = pytest.mark.cloud


@pytest.fixture
def path(bucket, monkeypatch):
    monkeypatch.setattr(gcs_lease, "RENEW_S", 0.2)
    monkeypatch.setattr(gcs_lease, "LEASE_S", 2.0)
    return f"{bucket}/training.lock"


def write_owner(path, **over):
    owner = {"machine": gcs_lease._machine(), "process": os.getpid(), "token": "t", **over}
    storage.write_text(path, json.dumps(owner))


def test_it_is_held_once_and_leaves_nothing(path):
    with storage.locked(path):
        with pytest.raises(BlockingIOError, match="held by process"), storage.locked(path):
            pass
        assert storage.exists(path)
    assert not storage.exists(path)
    with storage.locked(path):
        pass


def test_it_is_held_as_long_as_the_block_lasts(path):
    with storage.locked(path):
        first = storage.version(path)
        time.sleep(1)
        assert storage.version(path) != first


def test_the_work_of_a_scoring_is_removed_under_its_lease(path, bucket):
    work = work_folder(f"{bucket}/scores.csv")
    with alone_in(work):
        storage.write_text(f"{work}/00000.json", "{}")
        remove_work(work)
        assert [name for name in storage.list_names(work) if name.endswith(".json")] == []
        with pytest.raises(SettingsError, match="no other process must score"), alone_in(work):
            pass
        time.sleep(1)  # renewals go on
    assert storage.list_names(bucket) == []


def test_a_holder_of_this_machine_that_is_gone_is_succeeded_at_once(path, monkeypatch):
    monkeypatch.setattr(gcs_lease, "LEASE_S", 60.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for process in (gone.pid, os.getpid()):  # a container's next process has its number
        write_owner(path, process=process)
        begun = time.monotonic()
        with storage.locked(path):
            assert time.monotonic() - begun < 20


def test_a_holder_elsewhere_is_succeeded_when_it_renews_no_more(path):
    write_owner(path, machine="elsewhere")
    begun = time.monotonic()
    with storage.locked(path):
        assert time.monotonic() - begun >= 2


def test_a_holder_elsewhere_that_renews_is_not_succeeded(path, monkeypatch):
    monkeypatch.setattr(gcs_lease, "LEASE_S", 60.0)
    with storage.locked(path):
        monkeypatch.setattr(gcs_lease, "_machine", lambda: "elsewhere")
        with pytest.raises(BlockingIOError, match="held by another process"), storage.locked(path):
            pass


# A holder that saves when it is told to stop, as a training does, and is in the middle of a file;
# a worker of its own is behind a shell, as Beam's are: it has much to say when that is killed, as
# has the thread that waits for it.
HOLDER = """
import contextlib, os, signal, subprocess, sys, threading, time
from pathlib import Path
from pipeline import storage
from pipeline.children import adopting_orphans
from pipeline.storage import gcs_lease, local

def save(*_):
    storage.write_text(saved, "the first holder's")
    sys.exit(143)

def wait_for_the_worker():
    worker.wait()
    raise RuntimeError("the worker was killed")

def refuse():
    raise OSError("a disk that is gone")

gcs_lease.RENEW_S = 0.2
path, saved, here, trouble = sys.argv[1:]
signal.signal(signal.SIGTERM, save)
worker = subprocess.Popen("sh -c 'echo $$; exec sleep 60'; true", shell=True)
threading.Thread(target=wait_for_the_worker, daemon=True).start()
try:
    with adopting_orphans(), storage.locked(path), storage.writing(here) as file:
        file.write(b"half")
        file.flush()
        if trouble == "full":
            gcs_lease.LEAVE_S = 1
            os.set_blocking(2, False)
            with contextlib.suppress(BlockingIOError):
                while os.write(2, b"x" * 4096):
                    pass
            os.set_blocking(2, True)
        if trouble == "disk":
            local.discard_unfinished = refuse
        print("held", flush=True)
        time.sleep(60)
finally:
    storage.write_text(saved, "the first holder's, as it was unwound")
"""


@pytest.mark.parametrize("trouble", ["none", "unread", "full", "disk"])
def test_a_holder_whose_lease_was_taken_ends_and_leaves_the_others_files_alone(
    path, bucket, tmp_path, trouble
):
    saved = f"{bucket}/checkpoint"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, saved, str(tmp_path / "scores.csv"), trouble],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = sorted([holder.stdout.readline(), holder.stdout.readline()])
        assert told[1] == "held\n", holder.stderr.read()
        if trouble == "unread":
            holder.stderr.close()
        write_owner(path, machine="elsewhere")
        taken = storage.version(path)
        storage.write_text(saved, "the new holder's")
        assert holder.wait(timeout=30) == 143
        error = "" if trouble == "unread" else holder.stderr.read()
    finally:
        holder.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(told[0]), 0)  # the worker
    assert storage.read_text(saved) == "the new holder's"
    assert storage.version(path) == taken
    assert trouble == "disk" or [*tmp_path.iterdir()] == []
    if trouble in ("none", "disk"):
        assert error.count("\n") == 1, error
        lost = f"{path}: the lease was lost: not renewed for 60 s, and another process holds it, or"
        assert lost in error


def test_a_renewal_that_fails_by_an_error_of_any_kind_is_tried_again(path, monkeypatch, caplog):
    upload = gcs_lease.upload

    def break_once(*args, **more):
        monkeypatch.setattr(gcs_lease, "upload", upload)
        raise ValueError("an answer that is none")

    with storage.locked(path):
        first = storage.version(path)
        monkeypatch.setattr(gcs_lease, "upload", break_once)
        give_up = time.monotonic() + 20
        while storage.version(path) == first or not caplog.text:
            assert time.monotonic() < give_up
            time.sleep(0.05)
    assert "is not renewed, and will be tried again: an answer that is none" in caplog.text


@pytest.mark.parametrize("kind", ["delay", "lose_answer", "reset_upload", "status"])
def test_a_renewal_that_fails_or_hangs_is_given_up_and_the_next_one_holds(
    path, gateway, monkeypatch, caplog, kind
):
    monkeypatch.setattr(gcs_lease, "RENEW_S", 1.0)
    with storage.locked(path):
        first = storage.version(path)
        gateway.breaks({"kind": kind, "match": "^POST /upload", "times": 1, "seconds": 30})
        begun = time.monotonic()
        while "is not renewed" not in caplog.text:
            assert time.monotonic() - begun < 20
            time.sleep(0.05)
        while storage.version(path) == first or not gateway.requests()[2:]:
            assert time.monotonic() - begun < 20
            time.sleep(0.05)
        time.sleep(2)  # further renewals: what was made of a lost answer is no other process's
        assert gateway.met() == [1]
        with pytest.raises(BlockingIOError, match="held by process"), storage.locked(path):
            pass
    assert not storage.exists(path)


def test_a_renewal_whose_answer_was_lost_is_let_go_of_as_well(path, gateway, monkeypatch, caplog):
    monkeypatch.setattr(gcs_lease, "RENEW_S", 1.0)
    with storage.locked(path):
        gateway.breaks({"kind": "lose_answer", "match": "^POST /upload"})
        give_up = time.monotonic() + 20
        while "is not renewed" not in caplog.text:
            assert time.monotonic() < give_up
            time.sleep(0.05)
    assert not storage.exists(path)
