"""tf.train.Example without TensorFlow: values by feature name → bytes, and back.

Promises the same bytes for the same values (features in order of name, lists packed) and that what
is written holds every feature in its declared shape: missing is NaN, "" or -1, never an absent key.
Called by `beam_jobs.make_records` to write, by `verify_records` and tests to read: Beam workers do
without TensorFlow's import. `pipeline.stream.parse` reads the same bytes inside tf.data.

What is protobuf of it, and the way back, is in `pipeline.records.wire`.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.records.features import Dtype, Feature
from pipeline.records.wire import UINT64_MAX, Kind, pack_varints, read_example, varint

_KINDS: dict[Dtype, Kind] = {
    "string": "bytes", "bytes": "bytes", "float32": "float", "int64": "int64",
}  # fmt: skip
_TAGS: dict[Kind, bytes] = {"bytes": b"\x0a", "float": b"\x12", "int64": b"\x1a"}
_INT64_MAX = 2**63 - 1
_NUMBERS = (float, int, np.floating, np.integer)


class ExampleCodec:
    """Encodes and decodes the examples of one feature list; built once, used for every example.

    A value is a Python scalar, `str` or `bytes` for shape `()`, else a list or a numpy array of the
    feature's shape; text and bytes have shape `()` or one length.
    """

    def __init__(self, features: Iterable[Feature]) -> None:
        self.features = tuple(sorted(features, key=lambda feature: feature.name))
        self._fields = []
        for feature in self.features:
            kind, key = _KINDS[feature.dtype], feature.record_key.encode()
            if kind == "bytes" and len(feature.shape) > 1:
                raise ValueError(
                    f"feature {feature.name!r}: shape of {feature.dtype} must be () or one length, "
                    f"got {feature.shape}"
                )
            prefix = b"\x0a" + varint(len(key)) + key + b"\x12"
            self._fields.append((feature, prefix, _TAGS[kind], _ENCODERS[kind]))
        self._names = {feature.name for feature in self.features}
        self._keys = {feature.record_key for feature in self.features}
        self._codes = {f.name: dict(f.codes) for f in self.features if f.codes is not None}

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Values by feature name → one serialized `tf.train.Example`.

        Raises ValueError, naming the feature and its rule, for one that is absent, unknown, of
        another type or shape. Values are never quoted: they may identify a patient.
        """
        _check_names(values.keys(), self._names)
        entries = []
        for feature, prefix, tag, encode_list in self._fields:
            payload = encode_list(feature, values[feature.name])
            message = tag + varint(len(payload)) + payload
            entry = prefix + varint(len(message)) + message
            entries.append(b"\x0a" + varint(len(entry)) + entry)
        body = b"".join(entries)
        return b"\x0a" + varint(len(body)) + body

    def decode(self, data: bytes) -> dict[str, Any]:
        """One serialized example → its values by feature name, in order of name.

        Scalars come as `int`, `float`, `str` or `bytes`, text and bytes of one length as lists,
        numbers of a shape as numpy arrays, an integer that has codes as its text. ValueError for
        bytes that are no example (with the offset) and for an example of other features.
        """
        wire = read_example(data)
        _check_names(wire.keys(), self._keys)
        values = {f.name: _shaped(f, *wire[f.record_key]) for f in self.features}
        for name, codes in self._codes.items():
            if values[name] not in codes:
                raise ValueError(
                    f"feature {name!r}: value must be one of the codes "
                    f"{', '.join(map(str, codes))}, got {values[name]}"
                )
            values[name] = codes[values[name]]
        return values


def _check_names(names: Iterable[str], wanted: set[str]) -> None:
    if names != wanted:
        missing, unknown = sorted(wanted - set(names)), sorted(set(names) - wanted)
        raise ValueError(
            f"example: features must be those of the feature list, got {missing} missing and "
            f"{unknown} unknown; a missing value is written as NaN, '' or -1"
        )


def decode_wire(data: bytes) -> dict[str, tuple[Kind, list[Any]]]:
    """One serialized example → (kind, values) by name, without a feature list.

    For records that others wrote. Any order of features, packed and unpacked lists are read;
    a feature without a list has kind "bytes" and no values. ValueError names the offset.
    """
    return {name: (kind, list(values)) for name, (kind, values) in read_example(data).items()}


def _encode_bytes(feature: Feature, value: Any) -> bytes:
    items = [value]
    if feature.shape:
        if not isinstance(value, list | tuple | np.ndarray) or not _fits(feature, (len(value),)):
            raise _wrong(feature, value)
        items = list(value)
    wanted = str if feature.dtype == "string" else bytes
    pieces: list[bytes] = []
    for item in items:
        if not isinstance(item, wanted):
            raise _wrong(feature, value)
        data = item.encode() if isinstance(item, str) else item
        pieces += (b"\x0a", varint(len(data)), data)
    return b"".join(pieces)


def _encode_floats(feature: Feature, value: Any) -> bytes:
    try:
        if not feature.shape:
            if not isinstance(value, _NUMBERS):
                raise _wrong(feature, value)
            packed = struct.pack("<f", value)
        else:
            with np.errstate(over="raise"):
                packed = _array(feature, value, "fiu").astype("<f4").tobytes()
    except (OverflowError, FloatingPointError) as error:
        raise ValueError(
            f"feature {feature.name!r}: value must be within the range of float32, got a larger one"
        ) from error
    return b"\x0a" + varint(len(packed)) + packed if packed else b""


def _encode_ints(feature: Feature, value: Any) -> bytes:
    if feature.shape:
        array = _array(feature, value, "iu")
        if array.size and array.max() > _INT64_MAX:
            raise _out_of_int64(feature)
        packed = pack_varints(array)
    else:
        try:
            number = operator.index(value)
            packed = varint(number & UINT64_MAX)
        except TypeError as error:
            raise _wrong(feature, value) from error
        if not -_INT64_MAX - 1 <= number <= _INT64_MAX:
            raise _out_of_int64(feature)
    return b"\x0a" + varint(len(packed)) + packed if packed else b""


_ENCODERS: dict[Kind, Callable[[Feature, Any], bytes]] = {
    "bytes": _encode_bytes,
    "float": _encode_floats,
    "int64": _encode_ints,
}


def _array(feature: Feature, value: Any, kinds: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise _wrong(feature, value) from error
    if array.size and array.dtype.kind not in kinds:
        raise _wrong(feature, value)
    if not array.size and array.ndim == 1:
        array = array.reshape(0, *feature.shape[1:])  # `[]` says nothing of the other lengths
    if not _fits(feature, array.shape):
        raise _wrong(feature, value)
    return array


def _fits(feature: Feature, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(feature.shape) and all(
        wanted in (None, length) for wanted, length in zip(feature.shape, shape, strict=True)
    )


def _wrong(feature: Feature, value: Any) -> ValueError:
    """The error for a value of another type or shape, told without the value."""
    got = type(value).__name__
    if isinstance(value, np.ndarray):
        got = f"{value.dtype} of shape {value.shape}"
    elif isinstance(value, list | tuple):
        kinds = ", ".join(sorted({type(item).__name__ for item in value}))
        got += f" of {len(value)} items of {kinds or 'nothing'}"
    return ValueError(
        f"feature {feature.name!r}: value must be {feature.dtype} of shape {feature.shape}, "
        f"got {got}"
    )


def _out_of_int64(feature: Feature) -> ValueError:
    return ValueError(
        f"feature {feature.name!r}: value must be within the range of int64, got a larger one"
    )


def _shaped(feature: Feature, kind: Kind, values: Any) -> Any:
    count = len(values)
    wanted = [length for length in feature.shape if length is not None]
    size = int(np.prod(wanted))
    fits = count % size == 0 if feature.is_free else count == size
    if not fits or (count and kind != _KINDS[feature.dtype]):
        raise ValueError(
            f"feature {feature.name!r}: value must be {feature.dtype} of shape {feature.shape}, "
            f"got a list of {count} {kind}"
        )
    if kind == "bytes" and feature.dtype == "string":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError:  # not chained: that error quotes the value
            raise ValueError(f"feature {feature.name!r}: value must be UTF-8 text") from None
    if not feature.shape:
        return values[0] if feature.dtype in ("string", "bytes") else values[0].item()
    if feature.dtype in ("string", "bytes"):
        return values
    array = np.asarray(values, np.float32 if feature.dtype == "float32" else np.int64)
    return array.reshape([-1 if length is None else length for length in feature.shape])
