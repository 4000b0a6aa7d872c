"""Storage: a file is there whole, or not at all."""

import pytest

from pipeline import storage


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


def test_a_folder_that_is_not_there_has_no_names(tmp_path):
    assert storage.list_names(str(tmp_path / "none")) == []


def test_an_address_is_refused():
    with pytest.raises(ValueError, match="path must be a local one"):
        storage.read_bytes("gs://bucket/file")
