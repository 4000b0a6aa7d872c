"""Storage: a file is there whole, or not at all."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.storage import bucket_name


def test_a_file_appears_only_when_its_block_has_ended(tmp_path):
    path = storage.join(str(tmp_path), "a", "b.bin")
    with storage.writing(path) as file:
        file.write(b"x" * 1000)
        assert not storage.exists(path)
    assert storage.read_bytes(path) == b"x" * 1000
    assert storage.size_bytes(path) == 1000


def test_a_block_that_raises_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = storage.join(str(tmp_path), "b.bin")
    storage.write_text(path, "old")

    def write_half():
        with storage.writing(path) as file:
            file.write(b"new")
            raise RuntimeError("half written")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert storage.read_text(path) == "old"
    assert storage.list_names(str(tmp_path)) == ["b.bin"]


def test_what_a_dead_process_left_is_removed_and_what_lives_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    node = platform.node()
    gone = tmp_path / f".{node}-{dead.pid}-0123abcd.tmp"
    alive = tmp_path / f".{node}-{os.getpid()}-0123abcd.tmp"
    elsewhere = tmp_path / f".other-{node}-{dead.pid}-0123abcd.tmp"
    others = tmp_path / ".editor.tmp"
    for path in (gone, alive, elsewhere, others):
        path.touch()
    storage.remove_leftovers(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere, others])


def test_a_file_being_written_is_found_by_no_pattern_for_its_name(tmp_path):
    with storage.writing(str(tmp_path / "a.tfrecord-0")):
        assert list(tmp_path.glob("*a.tfrecord*")) == []
        [temporary] = tmp_path.iterdir()
        storage.discard_unfinished()
        assert not temporary.exists()
        temporary.touch()  # for the block to rename


def test_a_new_file_is_written_by_the_first_writer_alone(tmp_path):
    path = str(tmp_path / "claim")
    assert storage.write_new(path, "first")
    assert not storage.write_new(path, "second")
    assert storage.read_text(path) == "first"
    assert storage.list_names(str(tmp_path)) == ["claim"]


def test_a_folder_that_is_not_there_has_no_names(tmp_path):
    assert storage.list_names(str(tmp_path / "none")) == []


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="path must be a local one or gs://BUCKET/NAME, got 's3:"):
        storage.read_bytes("s3://bucket/file")


@pytest.mark.parametrize(
    ("root", "names", "path"),
    [
        ("gs://bucket", ["a", "b.bin"], "gs://bucket/a/b.bin"),
        ("gs://bucket/out/", ["/a//b/", "./c"], "gs://bucket/out/a/b/c"),
        ("gs://bucket/a/b", ["../c"], "gs://bucket/a/c"),
        ("gs://bucket/a", ["gs://other/b"], "gs://other/b"),
        ("gs://bucket", [], "gs://bucket"),
    ],
)
def test_a_path_of_a_bucket_has_one_spelling(root, names, path):
    assert storage.join(root, *names) == path
    assert storage.resolve(path) == path


def test_a_path_that_leaves_its_root_or_its_bucket_is_told_from_one_that_does_not():
    root = "gs://bucket/images"
    assert storage.is_inside(storage.join(root, "a/../b.jpg"), root)
    for path in ("../b.jpg", "a/../../other/b.jpg", "gs://other/images/b.jpg", ""):
        assert not storage.is_inside(storage.join(root, path), root), path
    assert not storage.is_inside("gs://bucket/images2/b.jpg", root)
    with pytest.raises(ValueError, match="path must stay in its bucket, got 'gs://bucket"):
        storage.join(root, "../../b.jpg")
    assert storage.parent("gs://bucket/a/b") == "gs://bucket/a"
    assert storage.parent("gs://bucket/a") == "gs://bucket"


TOO_LONG = [64 * "a", f"{64 * 'a'}.org", "a" + 111 * ".a"]  # the last of 223 characters


@pytest.mark.parametrize("name", ["", "UPPER", "b", "bb", "b ucket", "-bb", "bb.", *TOO_LONG])
def test_an_address_without_a_bucket_is_refused(name):
    with pytest.raises(ValueError, match=r"path must be gs://BUCKET/NAME, got 'gs:.*3 to 63"):
        storage.exists(f"gs://{name}/a")


@pytest.mark.parametrize("name", ["bbb", 63 * "a", f"{63 * 'a'}.org", "aa" + 110 * ".a"])
def test_a_bucket_may_have_any_name_that_google_gives(name):
    assert storage.parent(f"gs://{name}/a") == f"gs://{name}"
    assert re.fullmatch(bucket_name.PATTERN, name)


def test_a_file_is_written_over_by_who_saw_it_alone(tmp_path):
    path = str(tmp_path / "folder" / "manifest.json")
    absent = storage.version(path)
    assert storage.write_over(path, "first", absent)
    assert not storage.write_over(path, "second", absent)
    assert storage.read_text(path) == "first"
    assert storage.write_over(path, "third", storage.version(path))
    assert storage.read_text(path) == "third"
    assert storage.list_names(str(tmp_path / "folder")) == ["manifest.json"]


def test_a_folder_tells_its_files_by_size_and_those_below_it(tmp_path):
    for name in ("a.bin", "sub/b.bin", "sub/deep/c.bin"):
        storage.write_bytes(storage.join(str(tmp_path), name), name.encode())
    assert storage.list_sizes(str(tmp_path)) == {"a.bin": 5}
    assert sorted(storage.walk(str(tmp_path))) == ["a.bin", "sub/b.bin", "sub/deep/c.bin"]
    assert storage.list_sizes(str(tmp_path / "none")) == {}


def test_a_lock_is_held_by_one_process_and_let_go_when_it_ends(tmp_path):
    path = str(tmp_path / "folder" / "a.lock")
    program = "import sys, time; from pipeline import storage\n"
    program += f"with storage.locked({path!r}): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError), storage.locked(path):
        pass
    holder.kill()
    holder.wait()
    with storage.locked(path):
        pass
