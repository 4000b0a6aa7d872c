"""What breaks on the way is repeated, with the same bytes in the end; what won't pass is told."""

import random
import time

import pytest

from pipeline import storage
from pipeline.storage import gcs_client, gcs_requests

pytestmark = pytest.mark.cloud

DATA = random.Random(7).randbytes(10_000_000)  # more than one request takes
UPLOAD, CHUNK, DOWNLOAD = r"^POST /upload", r"^PUT .*upload_id", r"^GET /download"


@pytest.mark.parametrize(
    ("match", "fault"),
    [
        ("", {"kind": "status", "status": 503, "every": 4, "burst": 3}),
        ("", {"kind": "status", "status": 429, "every": 4, "burst": 3}),
        ("", {"kind": "delay", "every": 10, "seconds": 2}),
        (CHUNK, {"kind": "reset_upload", "every": 3, "burst": 1}),
        (CHUNK, {"kind": "lose_answer", "every": 3, "burst": 1}),
        (CHUNK, {"kind": "status", "status": 410, "times": 1, "every": 2}),
        (CHUNK, {"kind": "status", "status": 404, "times": 2}),
        (UPLOAD, {"kind": "reset_upload", "times": 2}),
        (DOWNLOAD, {"kind": "reset_download", "times": 2}),
        (DOWNLOAD, {"kind": "truncate", "times": 2}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_large_file_survives(gateway, bucket, monkeypatch, match, fault):
    monkeypatch.setattr(gcs_requests, "_CHUNK_BYTES", 1 << 22)  # three of them
    path = f"{bucket}/shard"
    gateway.breaks({"match": match, **fault})
    storage.write_bytes(path, DATA)
    assert storage.read_bytes(path) == DATA
    with storage.open_read(path) as file:
        assert file.read(9_000_000) == DATA[:9_000_000]
    assert gateway.met()[0] >= 1
    gateway.breaks()
    assert storage.read_bytes(path) == DATA
    assert storage.list_names(bucket) == ["shard"]


def test_no_request_draws_from_the_random_numbers_that_a_training_is_seeded_with(gateway, bucket):
    random.seed(5)
    before = random.getstate()
    gateway.breaks({"kind": "status", "status": 503, "every": 2})
    for size in (10, len(DATA)):
        storage.write_bytes(f"{bucket}/a", DATA[:size])
        assert len(storage.read_bytes(f"{bucket}/a")) == size
    storage.list_names(bucket)
    with storage.locked(f"{bucket}/lock"):
        pass
    assert gateway.met()[0] > 5
    assert random.getstate() == before


def test_a_claim_is_ours_although_the_answer_to_it_was_lost(gateway, bucket):
    gateway.breaks({"kind": "lose_answer", "match": UPLOAD, "times": 1})
    assert storage.write_new(f"{bucket}/claim", "ours")
    assert gateway.met() == [1]
    assert not storage.write_new(f"{bucket}/claim", "theirs")
    assert storage.read_text(f"{bucket}/claim") == "ours"


def test_a_refusal_is_told_at_once(gateway, bucket):
    storage.write_text(f"{bucket}/a", "a")
    gateway.breaks({"kind": "status", "status": 403, "match": "/o"})
    asks = (
        lambda: storage.read_bytes(f"{bucket}/a"),
        lambda: storage.open_read(f"{bucket}/a"),
        lambda: storage.exists(f"{bucket}/a"),
        lambda: storage.list_names(bucket),
        lambda: storage.write_text(f"{bucket}/a", "b"),
        lambda: storage.write_new(f"{bucket}/b", "b"),
        lambda: storage.write_bytes(f"{bucket}/a", DATA[: 9 << 20]),
        lambda: storage.remove_tree(bucket),
    )
    begun = time.monotonic()
    for ask in asks:
        told = "gs://bucket/.*: access must be granted, got 403 as it was told; give the account"
        with pytest.raises(storage.StorageError, match=told):
            ask()
    assert time.monotonic() - begun < 5  # a machine that is busy; no pause is in it
    assert gateway.met() == [len(asks)]


def test_credentials_that_do_not_work_are_told(gateway, bucket):
    gateway.breaks({"kind": "status", "status": 401})
    with pytest.raises(storage.StorageError, match="credentials must be there, got none that work"):
        storage.read_bytes(f"{bucket}/a")


def test_a_storage_that_stays_silent_is_told_after_a_while(gateway, bucket, monkeypatch):
    monkeypatch.setattr(gcs_client, "RETRY", gcs_client.RETRY.with_timeout(1))
    gateway.breaks({"kind": "status", "status": 503})
    for ask in (storage.read_bytes, storage.exists, lambda path: storage.write_text(path, "a")):
        with pytest.raises(storage.StorageError, match=r"the storage must answer, got 503 "):
            ask(f"{bucket}/a")


def test_a_bucket_that_is_not_there_is_told(gateway, bucket, monkeypatch):
    with pytest.raises(storage.StorageError, match="the bucket must be there, got none"):
        storage.write_text("gs://no-such-bucket/a", "a")
    with pytest.raises(FileNotFoundError, match="no-such-bucket"):
        storage.read_text("gs://no-such-bucket/a")
