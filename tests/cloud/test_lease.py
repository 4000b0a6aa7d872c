"""A lock on gs:// is held by one process, and let go of whoever is gone."""

import json
import os
import subprocess
import sys
import time

import pytest

from pipeline import storage
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


def test_a_holder_whose_lease_was_taken_is_told_to_leave(path, monkeypatch, caplog):
    told = []
    monkeypatch.setattr(gcs_lease.os, "kill", lambda *words: told.append(words))
    with storage.locked(path):
        write_owner(path, machine="elsewhere")
        give_up = time.monotonic() + 20
        while not told and time.monotonic() < give_up:
            time.sleep(0.1)
    assert told == [(os.getpid(), 15)]
    assert "another process has taken over" in caplog.text
    assert storage.exists(path)  # it is another's
