"""`pipeline.storage` on gs:// keeps what it promises of local files."""

import io
import random

import pytest

from pipeline import storage
from pipeline.storage.gcs_client import asking, split

pytestmark = pytest.mark.cloud


def test_a_file_appears_only_when_its_block_has_ended(bucket):
    path = storage.join(bucket, "a", "b.bin")
    with storage.writing(path) as file:
        file.write(b"x" * 1000)
        assert not storage.exists(path)
    assert storage.read_bytes(path) == b"x" * 1000
    assert storage.size_bytes(path) == 1000


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, 20_000_001])
def test_bytes_come_back_as_they_were(bucket, size):
    data = random.Random(size).randbytes(size)
    path = f"{bucket}/data.bin"
    storage.write_bytes(path, data)
    assert storage.read_bytes(path) == data
    with storage.open_read(path) as file:
        assert file.read() == data
        for place in {0, size // 3, max(size - 5, 0), size}:
            file.seek(place)
            assert file.read(9) == data[place : place + 9]
        assert file.seek(-min(size, 4), io.SEEK_END) == size - min(size, 4)
    assert storage.read_range(path, size // 2, 10) == data[size // 2 : size // 2 + 10]
    assert storage.read_range(path, size, 10) == b""


def test_a_block_that_raises_leaves_nothing_and_keeps_what_was_there(bucket):
    path = storage.join(bucket, "b.bin")
    storage.write_text(path, "old")

    def write_half():
        with storage.writing(path) as file:
            file.write(b"new")
            raise RuntimeError("half written")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert storage.read_text(path) == "old"
    assert storage.list_names(bucket) == ["b.bin"]


def test_a_folder_is_what_is_below_its_name_page_by_page(bucket):
    files = [f"{number:03d}.bin" for number in range(12)]
    names = [*(f"out/{name}" for name in files), "out/sub/deep/a.bin", "out-2/b.bin"]
    for name in names:
        storage.write_bytes(f"{bucket}/{name}", name.encode())
    assert storage.list_names(bucket) == ["out", "out-2"]
    assert storage.list_names(f"{bucket}/out/") == [*files, "sub"]
    assert storage.list_sizes(f"{bucket}/out") == dict.fromkeys(files, 11)
    assert sorted(storage.walk(bucket)) == sorted(names)
    assert storage.is_folder(f"{bucket}/out")
    assert not storage.is_folder(f"{bucket}/ou")
    assert storage.exists(f"{bucket}/out/sub")
    assert not storage.exists(f"{bucket}/out/su")
    storage.remove_tree(f"{bucket}/out")
    assert list(storage.walk(bucket)) == ["out-2/b.bin"]
    storage.remove_tree(f"{bucket}/out")


def test_what_is_not_there_is_told_as_on_a_disk(bucket):
    for read in (storage.read_bytes, storage.open_read, storage.size_bytes):
        with pytest.raises(FileNotFoundError, match=r"no such object: 'gs://bucket/.*/none'"):
            read(f"{bucket}/none")
    assert storage.list_names(f"{bucket}/none") == []
    assert not storage.exists("gs://no-such-bucket")
    storage.remove(f"{bucket}/none")
    storage.remove_tree(f"{bucket}/none")


def test_a_new_file_is_written_by_the_first_writer_alone(bucket):
    path = f"{bucket}/claim"
    assert storage.write_new(path, "first")
    assert not storage.write_new(path, "second")
    assert storage.read_text(path) == "first"


def test_a_file_is_written_over_by_who_saw_it_alone(bucket):
    path = f"{bucket}/manifest.json"
    absent = storage.version(path)
    assert storage.write_over(path, "first", absent)
    assert not storage.write_over(path, "second", absent)
    assert storage.read_text(path) == "first"
    assert storage.write_over(path, "third", storage.version(path))


def test_a_large_file_that_another_replaces_is_not_read_as_a_mixture(bucket, monkeypatch):
    monkeypatch.setattr("pipeline.storage.gcs._BUFFER_BYTES", 100)
    path = f"{bucket}/shard"
    storage.write_bytes(path, b"old" * 100)
    with storage.open_read(path) as file:
        assert file.read(3) == b"old"
        storage.write_bytes(path, b"new" * 100)
        with pytest.raises(storage.StorageError, match="must stay as it is while it is read"):
            file.read()


def test_a_folder_with_a_marker_of_its_own_is_gone_when_removed(bucket):
    """TensorFlow makes such markers, empty objects called `NAME/`."""
    storage.write_text(f"{bucket}/step/a.bin", "of the folder")
    with asking(bucket) as there:
        there.blob(f"{split(bucket)[1]}/step/".lstrip("/")).upload_from_string(b"")
    storage.remove_tree(f"{bucket}/step")
    assert not storage.is_folder(f"{bucket}/step")
