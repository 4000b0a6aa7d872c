"""A record set is opened, refused, or told where it is damaged, before an epoch starts."""

import subprocess
import sys

import pytest

from pipeline import storage
from pipeline.records.manifest import ManifestError
from pipeline.records.tfrecord import RecordError
from pipeline.storage.backend import StorageError
from pipeline.stream.records import check_shards, open_records
from records_factory import write_toy_records


def test_the_shards_of_the_asked_parts_come_in_order(tmp_path):
    write_toy_records(tmp_path)
    paths = open_records(str(tmp_path)).paths_of(["fold2", "fold0"])
    names = [path.rpartition("/")[2] for path in paths]
    assert names == [
        f"toy-fold{fold}.tfrecord-0000{shard}-of-00002" for fold in (0, 2) for shard in (0, 1)
    ]


def test_a_set_without_its_manifest_is_not_complete(tmp_path):
    with pytest.raises(ManifestError, match="missing or not complete"):
        open_records(str(tmp_path))


def test_a_set_with_too_many_failures_is_refused_unless_they_are_allowed(tmp_path):
    write_toy_records(tmp_path, failures_over_limit=True)
    with pytest.raises(ManifestError, match=r"got 40 truncated; .* --allow_failures"):
        open_records(str(tmp_path))
    assert open_records(str(tmp_path), allow_failures=True).manifest.failures == {"truncated": 40}


def test_a_missing_shard_is_named(tmp_path):
    manifest = write_toy_records(tmp_path)
    (tmp_path / manifest.shards[1].file).unlink()
    records = open_records(str(tmp_path))
    with pytest.raises(RecordError, match=f"{manifest.shards[1].file}: .* got no such file"):
        records.paths_of(["fold0"])
    assert records.paths_of(["fold1"])


def test_a_shard_of_another_length_is_named(tmp_path):
    manifest = write_toy_records(tmp_path)
    path = tmp_path / manifest.shards[0].file
    path.write_bytes(path.read_bytes()[:-1])
    wanted = manifest.shards[0].bytes
    with pytest.raises(RecordError, match=f"must be {wanted} bytes .* got {wanted - 1}; run make"):
        open_records(str(tmp_path)).paths_of(["fold0"])


def test_damage_within_a_shard_is_found_at_its_record(tmp_path):
    manifest = write_toy_records(tmp_path)
    records = open_records(str(tmp_path))
    check_shards(records, manifest.part_names)
    path = tmp_path / manifest.shards[3].file
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    check_shards(records, ["fold0"])
    with pytest.raises(RecordError, match=f"{path}: record 0 at byte 0: checksum of the data"):
        check_shards(records, ["fold1"])


def test_opening_records_does_without_tensorflow():
    code = "import sys, pipeline.stream.records; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_manifest_that_may_not_be_read_is_not_called_damaged(monkeypatch):
    def refuse(path):
        raise StorageError(f"{path}: access must be granted, got 403")

    monkeypatch.setattr(storage, "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"^gs://some-bucket/r/manifest.json: access must be"):
        open_records("gs://some-bucket/r")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00{"])
def test_a_manifest_that_is_no_json_is_named(content, tmp_path):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest.json: not valid JSON"):
        open_records(str(tmp_path))
