"""TFRecord files without TensorFlow: framing, checksums, and the digest of what was written.

Promises that a file written here is read by every TFRecord reader, and that a damaged one is found
where it is damaged: file, record and byte. `beam_jobs.make_records` writes shards with
`RecordWriter`; `verify_records` and the jobs that read records use `read_records`.

A record is its length (uint64), the length's checksum, the data, the data's checksum, all little
endian: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Collection, Iterator
from typing import IO, Protocol

import google_crc32c

from pipeline.errors import DataError

_LENGTH_BYTES, _CRC_BYTES = 8, 4
_HEADER_BYTES = _LENGTH_BYTES + _CRC_BYTES
_MAX_DATA_BYTES = 2**31 - 1  # no protobuf message is longer


class RecordError(DataError):
    """A record file is damaged; the message names the file, the record and the byte."""


class Readable(Protocol):
    """A binary file; `read` gives fewer bytes than asked for at its end only."""

    def read(self, size: int, /) -> bytes: ...


class RecordWriter:
    """Writes records to an open binary file and keeps count, length and digest as it goes.

    The SHA-256 is taken of the bytes on their way out, so no shard is read a second time.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.examples = 0
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Hex digest of all that was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Appends one record."""
        length = struct.pack("<Q", len(data))
        header = length + struct.pack("<I", masked_crc(length))
        record = b"".join((header, data, struct.pack("<I", masked_crc(data))))
        self._file.write(record)
        self._digest.update(record)
        self.bytes += len(record)
        self.examples += 1


class HashingReader:
    """A file that keeps count and digest of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.length = 0

    @property
    def sha256(self) -> str:
        """Hex digest of all that was read so far."""
        return self._digest.hexdigest()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; fewer at the file's end only."""
        data = self._file.read(size)
        self._digest.update(data)
        self.length += len(data)
        return data

    def read_rest(self) -> None:
        """Reads to the end, for the digest of the whole file."""
        while self.read(1 << 20):
            pass


def read_records(file: Readable, where: str) -> Iterator[tuple[int, bytes]]:
    """(byte offset of the record, its data) for each record of an open binary file.

    Holds one record at a time. `where` names the file in errors: RecordError at the first record
    that is cut off or whose checksum does not agree.
    """
    for offset, data in scan_records(file, where):
        if isinstance(data, RecordError):
            raise data
        yield offset, data


def scan_records(file: Readable, where: str) -> Iterator[tuple[int, bytes | RecordError]]:
    """`read_records` that goes on behind a record whose data alone are damaged.

    Gives the error in place of that record's data. RecordError where the frame itself is cut off or
    damaged: what follows cannot be found again.
    """
    offset = number = 0
    while header := file.read(_HEADER_BYTES):
        at = f"{where}: record {number} at byte {offset}"
        if len(header) < _HEADER_BYTES:
            raise _cut_off(at, "header", _HEADER_BYTES, len(header))
        length_field = header[:_LENGTH_BYTES]
        (length,) = struct.unpack("<Q", length_field)
        if masked_crc(length_field) != _crc_of(header[_LENGTH_BYTES:]):
            raise RecordError(f"{at}: checksum of the length does not agree; write the file again")
        if length > _MAX_DATA_BYTES:
            raise RecordError(f"{at}: length must be at most {_MAX_DATA_BYTES} bytes, got {length}")
        data = file.read(length)
        if len(data) < length:
            raise _cut_off(at, "data", length, len(data))
        footer = file.read(_CRC_BYTES)
        if len(footer) < _CRC_BYTES:
            raise _cut_off(at, "checksum of the data", _CRC_BYTES, len(footer))
        if masked_crc(data) != _crc_of(footer):
            damage = f"{at}: checksum of the data does not agree; write the file again"
            yield offset, RecordError(damage)
        else:
            yield offset, data
        offset += _HEADER_BYTES + length + _CRC_BYTES
        number += 1


def pick_records(file: IO[bytes], places: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """(place, data) of the records at some places of a file, from 0, in order.

    Winds on over the others unread, and checks nothing: for files that were just written.
    """
    for place in range(max(places, default=-1) + 1):
        (length,) = struct.unpack("<Q", file.read(_HEADER_BYTES)[:_LENGTH_BYTES])
        if place in places:
            yield place, file.read(length)
            file.seek(_CRC_BYTES, os.SEEK_CUR)
        else:
            file.seek(length + _CRC_BYTES, os.SEEK_CUR)


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset: a checksum of data that itself holds checksums stays sound."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


def _crc_of(field: bytes) -> int:
    (crc,) = struct.unpack("<I", field)
    return int(crc)


def _cut_off(at: str, what: str, wanted: int, got: int) -> RecordError:
    return RecordError(
        f"{at}: {what} must be {wanted} bytes, got {got}: the file is cut off; write it again"
    )
