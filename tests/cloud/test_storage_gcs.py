"""`pipeline.storage` on gs:// keeps what it promises of local files."""

import io
import random

import pytest

from pipeline import storage

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
