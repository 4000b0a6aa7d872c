"""The Beam jobs on gs://: the very bytes of a local run, whatever breaks on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from beam_jobs.find_duplicates import main as find_duplicates
from beam_jobs.make_records import main as make_records
from beam_jobs.verify_records import main as verify_records
from dataset_factory import record_flags, write_dataset
from pipeline import storage
from pipeline.records.manifest import ManifestError, manifest_version, read_manifest, write_manifest

pytestmark = pytest.mark.cloud

SETTINGS = {"folds": "2", "sizes": "32", "rows_per_shard": "4"}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """(A dataset on this machine, what was made of it there)."""
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder, rows=12, patients=6)
    assert make_records(record_flags(folder, folder / "out", **SETTINGS)) == 0
    return folder, contents(f"{folder}/out")


@pytest.fixture
def dataset(gateway, local):
    """The dataset under gs://, and the bytes that are to be made of it."""
    folder, made = local
    if not storage.exists("gs://bucket/data"):
        for name in ["train.csv", *(f"jpeg/{name}" for name in storage.walk(f"{folder}/jpeg"))]:
            storage.write_bytes(f"gs://bucket/data/{name}", storage.read_bytes(f"{folder}/{name}"))
    return "gs://bucket/data", made


def contents(output):
    """Every file by its path below `output`, but for those that name the folders."""
    paths = {*storage.walk(output)} - {"preview.html", "plan/plan.json"}
    return {path: storage.read_bytes(f"{output}/{path}") for path in paths}


def test_records_are_made_checked_and_searched(dataset, bucket, capsys):
    data, made = dataset
    assert make_records(record_flags(data, f"{bucket}/out", **SETTINGS)) == 0
    assert contents(f"{bucket}/out") == made
    assert storage.exists(f"{bucket}/out/preview.html")
    assert verify_records([f"{bucket}/out/32", "--csv", f"{data}/train.csv"]) == 0
    assert "12 examples in 4 shards: no fault" in capsys.readouterr().out
    words = [f"{bucket}/out/32", f"{data}/jpeg", "--output", f"{bucket}/shared.csv", "--stems"]
    assert find_duplicates(words) == 0
    assert storage.read_text(f"{bucket}/shared.csv").count("\n") > 12  # each is its own picture


def test_a_folder_tree_and_the_records_of_others_are_read(dataset, bucket, capsys):
    data, _ = dataset
    images = [f"{data}/jpeg/{name}" for name in storage.list_names(f"{data}/jpeg")]
    for number, path in enumerate(images):
        target = f"{bucket}/tree/{'ab'[number % 2]}/{number}.jpg"
        storage.write_bytes(target, storage.read_bytes(path))
    storage.write_bytes(f"{bucket}/tree/.hidden/x.jpg", b"")
    storage.write_bytes(f"{bucket}/tree/notes.txt", b"")
    words = ["--from_folders", f"{bucket}/tree", "--output", f"{bucket}/out", "--sizes", "32"]
    assert make_records([*words, "--folds", "2"]) == 0
    assert "1 files are no images" in capsys.readouterr().out
    manifest = read_manifest(f"{bucket}/out/32")
    assert manifest.label.classes == ("a", "b")
    for shard in manifest.shards:
        data = storage.read_bytes(f"{bucket}/out/32/{shard.file}")
        storage.write_bytes(f"{bucket}/theirs/{shard.file}", data)
    assert verify_records([f"{bucket}/theirs", "--adopt"]) == 0
    theirs = read_manifest(f"{bucket}/theirs")
    assert theirs.examples_in(theirs.part_names) == len(images)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "every": 7, "burst": 3},
        {"kind": "status", "status": 429, "every": 7, "burst": 3},
        {"kind": "delay", "every": 10, "seconds": 2},
        {"kind": "reset_upload", "match": "^POST /upload", "every": 3},
        {"kind": "lose_answer", "match": "^POST /upload", "every": 3},
        {"kind": "reset_download", "match": "^GET /download", "every": 5},
        {"kind": "truncate", "match": "^GET /download", "every": 5},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_the_same_records_are_made_whatever_breaks(gateway, dataset, bucket, fault):
    data, made = dataset
    gateway.breaks(fault)
    assert make_records(record_flags(data, f"{bucket}/out", **SETTINGS)) == 0
    assert gateway.met()[0] >= 3
    gateway.breaks()
    assert contents(f"{bucket}/out") == made


@pytest.mark.parametrize(
    "what",
    [
        r"data%2Ftrain\.csv",
        "maxResults.*data%2Fjpeg",
        "^GET /download.*data%2Fjpeg",
        "^POST /upload",
    ],
    ids=["table", "images", "one image", "output"],
)
def test_no_permission_is_one_clear_error(gateway, dataset, bucket, capsys, what):
    data, _ = dataset
    gateway.breaks({"kind": "status", "status": 403, "match": what})
    assert make_records(record_flags(data, f"{bucket}/out", **SETTINGS)) == 1
    assert gateway.met()[0] > 0
    gateway.breaks()
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("make_records: error: gs://bucket/")
    assert "access must be granted, got 403 as it was told; give the account the role" in told
    assert not storage.exists(f"{bucket}/out/32/manifest.json")


def test_of_two_that_make_the_same_records_one_is_told_that_it_was_second(gateway, dataset, bucket):
    data, made = dataset
    gateway.breaks({"kind": "delay", "match": "^GET /download.*jpeg", "seconds": 1})
    words = ["-m", "beam_jobs.make_records", *record_flags(data, f"{bucket}/out", **SETTINGS)]
    both = [
        subprocess.Popen(
            [sys.executable, *words],
            env=gateway.environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("another process was first to commit the very same" in text for text in told) == 1
    assert contents(f"{bucket}/out") == made


def test_a_manifest_that_another_has_committed_stays(dataset, bucket, caplog):
    data, _ = dataset
    assert make_records(record_flags(data, f"{bucket}/out", **SETTINGS)) == 0
    folder = f"{bucket}/out/32"
    manifest, text = read_manifest(folder), storage.read_text(f"{folder}/manifest.json")
    storage.remove(f"{folder}/manifest.json")
    before = manifest_version(folder)  # two begin
    write_manifest(folder, manifest, before)  # the first ends
    write_manifest(folder, manifest, before)  # the second has made the same
    assert "another process was first to commit the very same" in caplog.text
    theirs = json.loads(text)
    storage.write_text(f"{folder}/manifest.json", json.dumps({**theirs, "enlarged": 77}))
    with pytest.raises(ManifestError, match="must stay as it was when this process began, got ano"):
        write_manifest(folder, manifest, before)
    assert read_manifest(folder).enlarged == 77
