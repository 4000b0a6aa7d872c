"""`verify_records`: every kind of damage is found, and named by place."""

import json
import shutil

import pytest

from beam_jobs.make_records import main as make_records
from beam_jobs.verify_records import main
from dataset_factory import record_flags, write_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder)
    assert make_records(record_flags(folder, folder / "out", name="toy")) == 0
    return folder / "out" / "64"


@pytest.fixture
def records(made, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(made, tmp_path / "64")


def shard(records, index=0):
    return sorted(records.glob("toy-*"))[index]


def verdicts(text):
    return {line.split()[1]: line.split()[0] for line in text.splitlines() if line[:1] in "oF"}


def test_what_was_just_made_has_no_fault(made, capsys):
    assert main([str(made)]) == 0
    out = capsys.readouterr().out
    assert set(verdicts(out).values()) == {"ok"}
    assert "24 examples in 8 shards: no fault" in out


def test_a_flipped_bit_is_found_with_file_record_and_offset(records, capsys):
    data = bytearray(shard(records).read_bytes())
    data[len(data) // 2] ^= 4
    shard(records).write_bytes(data)
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)["framing"] == verdicts(out)["files"] == "FAULT"
    line = next(line for line in out.splitlines() if "checksum of the data" in line)
    assert shard(records).name in line
    assert "record 1 at byte " in line or "record 2 at byte " in line


def test_a_shard_that_is_cut_off_or_gone_is_found(records, capsys):
    shard(records).write_bytes(shard(records).read_bytes()[:-5])
    gone = shard(records, 1).name
    shard(records, 1).unlink()
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert "the file is cut off" in out
    assert f"{gone}: there is no such file" in out


def test_two_shards_that_changed_places_are_found(records, capsys):
    first, last = shard(records, 0), shard(records, -1)
    content = first.read_bytes(), last.read_bytes()
    first.write_bytes(content[1])
    last.write_bytes(content[0])
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)["rows"] == "FAULT"
    assert "part must be the shard's" in out


def test_a_manifest_that_counts_otherwise_is_found(records, capsys):
    manifest = json.loads((records / "manifest.json").read_text())
    manifest["parts"][0]["groups"] += 1
    (records / "manifest.json").write_text(json.dumps(manifest))
    assert main([str(records)]) == 1
    assert verdicts(capsys.readouterr().out)["counts"] == "FAULT"


def test_a_size_that_is_not_the_images_is_found(records, capsys):
    text = (records / "manifest.json").read_text().replace('"size": 64', '"size": 65')
    (records / "manifest.json").write_text(text)
    assert main([str(records)]) == 1
    assert "size must be 65×65 px, got 64×64" in capsys.readouterr().out


def test_records_without_a_manifest_are_not_complete(records, capsys):
    (records / "manifest.json").unlink()
    assert main([str(records)]) == 1
    assert "manifest.json: no such file: the records are missing or not complete" in (
        capsys.readouterr().err
    )
