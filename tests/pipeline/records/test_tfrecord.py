"""TFRecord framing: what TensorFlow reads and writes, and any bit of damage."""

import hashlib
import io
import struct

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.example import decode_wire
from pipeline.records.tfrecord import RecordError, RecordWriter, masked_crc, read_records

TWO_RECORDS = [b"first", b"the second record"]


def written(records):
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)
    return file.getvalue(), writer


def read_all(data):
    return list(read_records(io.BytesIO(data), "a.tfrecord"))


def test_tensorflow_reads_what_is_written(tmp_path):
    path = tmp_path / "ours.tfrecord"
    path.write_bytes(written([b"", b"abc", bytes(70_000)])[0])
    theirs = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    assert list(theirs) == [b"", b"abc", bytes(70_000)]


def test_the_bytes_are_those_that_tensorflow_writes(tmp_path):
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in TWO_RECORDS:
            writer.write(record)
    assert written(TWO_RECORDS)[0] == path.read_bytes()


@given(st.lists(st.binary(max_size=100)))
def test_records_come_back_with_their_offsets(records):
    data, _ = written(records)
    back = read_all(data)
    assert [record for _, record in back] == records
    assert [data[at : at + 8] for at, _ in back] == [struct.pack("<Q", len(r)) for r in records]


def test_the_writer_counts_and_digests_what_it_wrote():
    data, writer = written(TWO_RECORDS)
    assert (writer.examples, writer.bytes) == (2, len(data))
    assert writer.sha256 == hashlib.sha256(data).hexdigest()


@given(st.data())
def test_any_flipped_bit_is_found_and_its_record_named(data):
    damaged = bytearray(written(TWO_RECORDS)[0])
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    second = 16 + len(TWO_RECORDS[0])
    number, offset = (0, 0) if bit // 8 < second else (1, second)
    with pytest.raises(RecordError, match=rf"^a\.tfrecord: record {number} at byte {offset}: "):
        read_all(bytes(damaged))


@pytest.mark.parametrize(
    ("kept", "what"),
    [(5, "header"), (12, "data"), (14, "data"), (17, "checksum of the data"), (19, "checksum")],
)
def test_a_file_that_is_cut_off_tells_in_what(kept, what):
    with pytest.raises(RecordError, match=f"record 0 at byte 0: {what}.* must be .* cut off"):
        read_all(written(TWO_RECORDS)[0][:kept])


def test_a_file_cut_between_records_is_a_shorter_file():
    data, _ = written(TWO_RECORDS)
    assert [record for _, record in read_all(data[:21])] == TWO_RECORDS[:1]


def test_a_length_that_no_example_has_is_refused_before_it_is_read():
    length = struct.pack("<Q", 2**40)
    with pytest.raises(
        RecordError, match="length must be at most 2147483647 bytes, got 1099511627776"
    ):
        read_all(length + struct.pack("<I", masked_crc(length)))


def test_records_that_others_wrote_are_read(real_data):
    counts = []
    for path in sorted((real_data / "foreign_tfrecords").glob("*.tfrec")):
        with path.open("rb") as file:
            examples = [decode_wire(data) for _, data in read_records(file, path.name)]
        assert {len(values) for example in examples for _, values in example.values()} == {1}
        assert all(example["image"][1][0].startswith(b"\xff\xd8") for example in examples)
        targets = [example["target"] for example in examples]
        assert {kind for kind, _ in targets} == {"int64"}
        counts.append((len(examples), sum(values[0] for _, values in targets)))
    assert counts == [(50, 2), (50, 0)]
