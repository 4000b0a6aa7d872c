"""`scan_records` goes on behind damaged data, `pick_records` winds on to chosen places."""

import io

import pytest

from pipeline.records.tfrecord import (
    HashingReader,
    RecordError,
    RecordWriter,
    pick_records,
    read_records,
    scan_records,
)

DATA = [b"first", b"", b"third" * 1000, b"fourth"]


def written():
    """The bytes of a file that holds `DATA`, and the offset of each record."""
    file = io.BytesIO()
    writer = RecordWriter(file)
    offsets = []
    for data in DATA:
        offsets.append(writer.bytes)
        writer.write(data)
    return bytearray(file.getvalue()), offsets


def test_damaged_data_are_told_and_the_records_behind_them_read():
    content, offsets = written()
    content[offsets[2] + 500] ^= 8
    found = dict(scan_records(io.BytesIO(content), "f"))
    assert list(found) == offsets
    assert isinstance(found[offsets[2]], RecordError)
    assert f"f: record 2 at byte {offsets[2]}: checksum of the data" in str(found[offsets[2]])
    assert [found[offset] for offset in (*offsets[:2], offsets[3])] == [*DATA[:2], DATA[3]]


def test_a_damaged_length_ends_the_scan():
    content, offsets = written()
    content[offsets[2]] ^= 8
    records = scan_records(io.BytesIO(content), "f")
    assert [next(records)[1] for _ in range(2)] == DATA[:2]
    with pytest.raises(RecordError, match=f"record 2 at byte {offsets[2]}: checksum of the length"):
        next(records)


def test_reading_stops_at_the_first_damage():
    content, offsets = written()
    content[offsets[1] + 13] ^= 1
    with pytest.raises(RecordError, match="record 1 at byte"):
        list(read_records(io.BytesIO(content), "f"))


@pytest.mark.parametrize("places", [[], [0], [3], [1, 2], [0, 1, 2, 3]])
def test_records_are_picked_by_place(places):
    content, _ = written()
    assert list(pick_records(io.BytesIO(content), places)) == [(p, DATA[p]) for p in places]


def test_a_hashing_reader_gives_the_digest_of_the_whole_file():
    content, _ = written()
    file = io.BytesIO()
    writer = RecordWriter(file)
    for data in DATA:
        writer.write(data)
    reader = HashingReader(io.BytesIO(content))
    reader.read(7)
    reader.read_rest()
    assert (reader.length, reader.sha256) == (writer.bytes, writer.sha256)
