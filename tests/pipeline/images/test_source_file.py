"""Sources are read from under their root, and from nowhere else."""

import os

import pytest

from pipeline.images.image_error import ImageError
from pipeline.images.source_file import read_source


@pytest.fixture
def root(tmp_path):
    (tmp_path / "jpeg" / "a").mkdir(parents=True)
    (tmp_path / "jpeg" / "a" / "x.jpg").write_bytes(b"bytes")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "jpeg"


def test_a_file_under_the_root_is_read(root):
    assert read_source(str(root), "a/x.jpg") == b"bytes"


def test_a_link_within_the_root_is_followed(root):
    (root / "y.jpg").symlink_to(root / "a" / "x.jpg")
    assert read_source(str(root), "y.jpg") == b"bytes"


def test_a_root_that_is_a_link_itself_is_a_root(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert read_source(str(tmp_path / "link"), "a/x.jpg") == b"bytes"


@pytest.mark.parametrize("target", ["../secret", "../jpeg2/x.jpg", "/etc/hostname"])
def test_a_link_out_of_the_root_is_refused(root, tmp_path, target):
    (tmp_path / "jpeg2").mkdir()  # a neighbour whose name begins alike
    (tmp_path / "jpeg2" / "x.jpg").write_bytes(b"other")
    (root / "out.jpg").symlink_to(target)
    with pytest.raises(ImageError) as refused:
        read_source(str(root), "out.jpg")
    assert refused.value.reason == "outside_root"


@pytest.mark.parametrize("path", ["none.jpg", "a", "a/x.jpg/y.jpg"])
def test_what_is_no_file_is_missing(root, path):
    with pytest.raises(ImageError) as refused:
        read_source(str(root), path)
    assert refused.value.reason == "missing"


def test_what_cannot_be_read_is_one_failed_row(root, monkeypatch):
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(ImageError) as refused:
        read_source(str(root), "loop")
    assert refused.value.reason == "unreadable"

    def fail(path):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("pipeline.storage.read_bytes", fail)
    with pytest.raises(ImageError, match="unreadable: Input/output error"):
        read_source(str(root), "a/x.jpg")
