"""The wire format of tf.train.Example: varints, and bytes → lists of values by feature name.

Promises that bytes are read as protobuf reads them or refused with the offset of the damage. Called
by `pipeline.records.example` alone.

https://protobuf.dev/programming-guides/encoding/; the messages `Example`, `Features`, `Feature` and
its three lists are in tensorflow/core/example/example.proto and feature.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["bytes", "float", "int64"]

UINT64_MAX = 2**64 - 1
_MAX_VARINT_BYTES = 10  # 64 bits, seven a byte
_KIND_OF_FIELD: dict[int, Kind] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_BYTES = {_FIXED32: 4, _FIXED64: 8}
# Field number → the wire types it may have, by message.
_MESSAGE = {1: (_DELIMITED,)}  # Example, Features, BytesList
_ENTRY = {1: (_DELIMITED,), 2: (_DELIMITED,)}
_FEATURE = {1: (_DELIMITED,), 2: (_DELIMITED,), 3: (_DELIMITED,)}
_FLOATS = {1: (_DELIMITED, _FIXED32)}
_INTS = {1: (_DELIMITED, _VARINT)}


def varint(number: int) -> bytes:
    """An unsigned number as groups of seven bits, the lowest first."""
    if number < 0x80:
        return number.to_bytes()
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def pack_varints(numbers: npt.NDArray[Any]) -> bytes:
    """int64 of any shape → its varints one after the other; negative ones take ten bytes."""
    unsigned = numbers.astype(np.int64).view(np.uint64).reshape(-1, 1)
    groups_needed = max(1, -(-int(unsigned.max(initial=0)).bit_length() // 7))
    rest = unsigned >> np.arange(0, 7 * groups_needed, 7, dtype=np.uint64)
    is_used = rest > 0  # something is left from this group on
    is_used[:, 0] = True
    groups = (rest & 0x7F).astype(np.uint8)
    groups[:, :-1] |= is_used[:, 1:].view(np.uint8) << 7
    return groups[is_used].tobytes()


def read_example(data: bytes) -> dict[str, tuple[Kind, Any]]:
    """Serialized example → kind and values by name: a list of bytes, float32 [N] or int64 [N].

    Packed and unpacked lists, features in any order. ValueError for bytes that are no example.
    """
    found = {}
    for _, start, end in _fields(data, 0, len(data), _MESSAGE):
        for _, entry, entry_end in _fields(data, start, end, _MESSAGE):
            name, kind, values = _read_entry(data, entry, entry_end)
            found[name] = (kind, values)
    return found


def _read_entry(data: bytes, start: int, end: int) -> tuple[str, Kind, Any]:
    spans: dict[int, tuple[int, int]] = {}
    for number, at, stop in _fields(data, start, end, _ENTRY):
        if number in spans:
            raise _damaged(start, "an entry has two names or two features")
        spans[number] = (at, stop)
    nothing = (end, end)  # an empty name or feature may be left out
    kind: Kind = "bytes"
    lists: list[Any] = []
    for number, at, stop in _fields(data, *spans.get(2, nothing), _FEATURE):
        if _KIND_OF_FIELD[number] != kind:  # of two kinds the last one holds
            kind, lists = _KIND_OF_FIELD[number], []
        lists.append(_READERS[kind](data, at, stop))
    try:
        text = data[slice(*spans.get(1, nothing))].decode()
    except UnicodeDecodeError as error:
        raise _damaged(start, "a feature's name is not UTF-8") from error
    if kind == "bytes":
        return text, kind, [value for values in lists for value in values]
    return text, kind, lists[0] if len(lists) == 1 else np.concatenate(lists)


def _read_bytes(data: bytes, start: int, end: int) -> list[bytes]:
    return [data[at:stop] for _, at, stop in _fields(data, start, end, _MESSAGE)]


def _read_floats(data: bytes, start: int, end: int) -> npt.NDArray[np.float32]:
    packed = b"".join(data[at:stop] for _, at, stop in _fields(data, start, end, _FLOATS))
    if len(packed) % 4:
        raise _damaged(start, f"a list of floats has {len(packed)} bytes, not a multiple of 4")
    return np.frombuffer(packed, "<f4")


def _read_ints(data: bytes, start: int, end: int) -> npt.NDArray[np.int64]:
    chunks = [_unpack_varints(data, *span) for _, *span in _fields(data, start, end, _INTS)]
    return np.concatenate(chunks) if chunks else np.empty(0, np.int64)


_READERS: dict[Kind, Callable[[bytes, int, int], Any]] = {
    "bytes": _read_bytes,
    "float": _read_floats,
    "int64": _read_ints,
}


def _unpack_varints(data: bytes, start: int, end: int) -> npt.NDArray[np.int64]:
    if end - start <= _MAX_VARINT_BYTES:  # a scalar, as a rule: one step beats ten array calls
        numbers = []
        while start < end:
            number, start = _read_varint(data, start, end)
            numbers.append(number & UINT64_MAX)
        return np.array(numbers, np.uint64).view(np.int64)
    groups = np.frombuffer(data, np.uint8, end - start, start)
    ends = np.flatnonzero(groups < 0x80) + 1
    if not ends.size or ends[-1] != groups.size:
        raise _damaged(start, "the last of a list of integers is cut off")
    lengths = np.diff(ends, prepend=0)
    if lengths.max() > _MAX_VARINT_BYTES:
        raise _damaged(start, f"one of a list of integers has more than {_MAX_VARINT_BYTES} bytes")
    starts = ends - lengths
    place = np.arange(groups.size) - np.repeat(starts, lengths)
    bits = (groups & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64)


def _fields(
    data: bytes, start: int, end: int, known: Mapping[int, tuple[int, ...]]
) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end of the value) of each field in `data[start:end]`.

    `known` gives the fields a message has, and the wire types of each. A field that none of the
    five messages has is damage: they have not changed since they were first published.
    """
    at = start
    while at < end:
        key_at = at
        key, at = _read_varint(data, at, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == _DELIMITED:
            length, at = _read_varint(data, at, end)
            stop = at + length
        elif wire_type == _VARINT:
            _, stop = _read_varint(data, at, end)
        elif wire_type in _FIXED_BYTES:
            stop = at + _FIXED_BYTES[wire_type]
        else:
            raise _damaged(key_at, f"wire type {wire_type} is unknown")
        if wire_type not in known.get(number, ()):
            raise _damaged(key_at, f"field {number} of wire type {wire_type} is unknown here")
        if stop > end:
            raise _damaged(key_at, f"a field needs {stop - end} bytes more than there are")
        yield number, at, stop
        at = stop


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:  # nine of ten are one byte
        return data[at], at + 1
    number = shift = 0
    for place in range(at, min(end, at + _MAX_VARINT_BYTES)):
        group = data[place]
        if group < 0x80:
            return number | group << shift, place + 1
        number |= (group & 0x7F) << shift
        shift += 7
    raise _damaged(at, "a varint does not end")


def _damaged(offset: int, what: str) -> ValueError:
    return ValueError(f"example: bytes must be a tf.train.Example, got at byte {offset}: {what}")
