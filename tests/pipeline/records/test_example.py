"""The codec against TensorFlow's own protobuf, and what it refuses."""

import math
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.example import ExampleCodec, decode_wire
from pipeline.records.features import Feature

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)

ALL_KINDS = (
    Feature(name="row", dtype="int64"),
    Feature(name="age", dtype="float32"),
    Feature(name="sex", dtype="string"),
    Feature(name="image", dtype="bytes"),
    Feature(name="weights", dtype="float32", shape=(3,)),
    Feature(name="boxes", dtype="float32", shape=(None, 4)),
    Feature(name="box_label", dtype="int64", shape=(None,)),
    Feature(name="slices", dtype="bytes", shape=(None,)),
    Feature(name="words", dtype="string", shape=(None,)),
)


def values(**changes):
    return {
        "row": -1,
        "age": math.nan,
        "sex": "",
        "image": b"\xff\xd8\xff",
        "weights": [0.25, 0.5, 1.0],
        "boxes": np.empty((0, 4), np.float32),
        "box_label": [],
        "slices": [],
        "words": [],
        **changes,
    }


def codec_of(dtype, shape=()):
    return ExampleCodec([Feature(name="x", dtype=dtype, shape=shape)])


def tf_example(**lists):
    return tf.train.Example(features=tf.train.Features(feature=lists))


def ints(*numbers):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))


def floats(*numbers):
    return tf.train.Feature(float_list=tf.train.FloatList(value=numbers))


def texts(*items):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=items))


def test_the_bytes_are_those_that_tensorflow_writes_in_order_of_name():
    data = ExampleCodec(ALL_KINDS).encode(values(box_label=[3, -(2**63)], words=["é", ""]))
    wanted = tf_example(
        row=ints(-1),
        age=floats(math.nan),
        sex=texts(b""),
        image=texts(b"\xff\xd8\xff"),
        weights=floats(0.25, 0.5, 1.0),
        boxes=floats(),
        box_label=ints(3, -(2**63)),
        slices=texts(),
        words=texts("é".encode(), b""),
    )
    assert data == wanted.SerializePartialToString(deterministic=True)


@given(number=INT64, numbers=st.lists(INT64))
def test_integers_survive_the_way_there_and_back(number, numbers):
    codec = ExampleCodec(
        [Feature(name="one", dtype="int64"), Feature(name="many", dtype="int64", shape=(None,))]
    )
    data = codec.encode({"one": number, "many": numbers})
    assert codec.decode(data)["one"] == number
    assert codec.decode(data)["many"].tolist() == numbers
    feature = tf.train.Example.FromString(data).features.feature
    assert list(feature["one"].int64_list.value) == [number]
    assert list(feature["many"].int64_list.value) == numbers


@given(number=FLOAT32, numbers=st.lists(FLOAT32))
def test_floats_keep_nan_infinity_and_the_sign_of_zero(number, numbers):
    codec = ExampleCodec(
        [Feature(name="one", dtype="float32"), Feature(name="many", dtype="float32", shape=(None,))]
    )
    data = codec.encode({"one": number, "many": numbers})
    back = codec.decode(data)
    assert struct.pack("<f", back["one"]) == struct.pack("<f", number)
    assert back["many"].tobytes() == np.array(numbers, np.float32).tobytes()
    theirs = tf.train.Example.FromString(data).features.feature["many"].float_list.value
    np.testing.assert_array_equal(theirs, np.array(numbers, np.float32))


@given(text=st.text(), items=st.lists(st.binary()))
def test_text_and_bytes_survive_the_way_there_and_back(text, items):
    codec = ExampleCodec(
        [Feature(name="text", dtype="string"), Feature(name="raw", dtype="bytes", shape=(None,))]
    )
    data = codec.encode({"text": text, "raw": items})
    assert codec.decode(data) == {"text": text, "raw": items}
    feature = tf.train.Example.FromString(data).features.feature
    assert feature["text"].bytes_list.value[0] == text.encode()
    assert list(feature["raw"].bytes_list.value) == items


def test_an_example_that_tensorflow_wrote_is_decoded():
    features = [
        Feature(name="boxes", dtype="float32", shape=(None, 4)),
        Feature(name="id", dtype="string"),
        Feature(name="row", dtype="int64"),
    ]
    theirs = tf_example(id=texts(b"a"), row=ints(7), boxes=floats(*range(8)))
    back = ExampleCodec(features).decode(theirs.SerializeToString())
    assert (back["id"], back["row"]) == ("a", 7)
    np.testing.assert_array_equal(back["boxes"], np.arange(8).reshape(2, 4))


def test_a_vector_of_12210_values_is_one_feature():
    spectrum = np.random.default_rng(0).normal(size=12_210).astype(np.float32)
    codec = codec_of("float32", (12_210,))
    data = codec.encode({"x": spectrum})
    np.testing.assert_array_equal(codec.decode(data)["x"], spectrum)
    parsed = tf.io.parse_single_example(data, {"x": tf.io.FixedLenFeature([12_210], tf.float32)})
    np.testing.assert_array_equal(parsed["x"], spectrum)


def test_numpy_scalars_and_python_scalars_give_the_same_bytes():
    codec = ExampleCodec([Feature(name="a", dtype="float32"), Feature(name="n", dtype="int64")])
    ours = codec.encode({"a": 0.5, "n": 3})
    assert ours == codec.encode({"a": np.float32(0.5), "n": np.int32(3)})


@pytest.mark.parametrize(
    ("dtype", "shape", "value", "got"),
    [
        ("int64", (), 1.0, "got float"),
        ("int64", (), "1", "got str"),
        ("int64", (), [1], "got list of 1 items of int"),
        ("float32", (), "nan", "got str"),
        ("float32", (3,), [1.0, 2.0], "got list of 2 items of float"),
        ("float32", (3,), ["a", "b", "c"], "got list of 3 items of str"),
        ("float32", (None, 4), np.zeros((2, 5)), r"got float64 of shape \(2, 5\)"),
        ("float32", (None, 4), np.zeros(8), r"got float64 of shape \(8,\)"),
        ("float32", (None, 4), [[1.0] * 4, [1.0] * 3], "got list of 2 items of list"),
        ("int64", (None,), [1.5], "got list of 1 items of float"),
        ("string", (), b"patient", "got bytes"),
        ("bytes", (), "patient", "got str"),
        ("string", (None,), "patient", "got str"),
        ("bytes", (2,), [b"a"], "got list of 1 items of bytes"),
        ("string", (None,), math.nan, "got float"),
    ],
)
def test_a_value_of_another_type_or_shape_is_refused_without_being_quoted(dtype, shape, value, got):
    with pytest.raises(
        ValueError, match=f"feature 'x': value must be {dtype} of shape .*{got}"
    ) as e:
        codec_of(dtype, shape).encode({"x": value})
    assert "patient" not in str(e.value)


@pytest.mark.parametrize(
    ("dtype", "shape", "value"),
    [
        ("int64", (), 2**63),
        ("int64", (), -(2**63) - 1),
        ("int64", (1,), np.array([2**63], np.uint64)),
        ("float32", (), 1e39),
        ("float32", (2,), [0.0, 1e39]),
    ],
)
def test_a_number_that_its_type_cannot_hold_is_refused(dtype, shape, value):
    with pytest.raises(ValueError, match=f"feature 'x': value must be within the range of {dtype}"):
        codec_of(dtype, shape).encode({"x": value})


def test_an_absent_and_an_unknown_feature_are_both_named():
    codec = codec_of("int64")
    with pytest.raises(ValueError, match=r"\['x'\] missing and \['y'\] unknown"):
        codec.encode({"y": 1})
    with pytest.raises(ValueError, match=r"\['x'\] missing and \['y'\] unknown"):
        codec.decode(codec_of("int64").encode({"x": 1}).replace(b"x", b"y"))


def test_text_of_two_lengths_is_refused_before_any_example_is_written():
    with pytest.raises(ValueError, match=r"shape of string must be \(\) or one length"):
        codec_of("string", (None, 2))


def test_an_example_of_another_kind_is_refused():
    data = codec_of("int64").encode({"x": 1})
    with pytest.raises(
        ValueError, match=r"feature 'x': value must be float32 .* got a list of 1 int64"
    ):
        codec_of("float32").decode(data)


def test_text_that_is_not_utf8_is_refused_without_being_quoted():
    data = codec_of("bytes").encode({"x": b"patient\xff"})
    with pytest.raises(ValueError, match="feature 'x': value must be UTF-8") as error:
        codec_of("string").decode(data)
    assert "patient" not in str(error.value)


def message(*fields):
    """A protobuf message of delimited fields, each (number, bytes)."""
    return b"".join(bytes([number << 3 | 2, len(data)]) + data for number, data in fields)


def example_of(feature):
    """An example with one feature `x`, of these bytes."""
    return message((1, message((1, message((1, b"x"), (2, feature))))))


def test_unpacked_lists_are_read():
    floats_one_by_one = b"".join(b"\x0d" + struct.pack("<f", x) for x in (1.5, -2.0))
    data = example_of(message((2, floats_one_by_one)))
    assert decode_wire(data) == {"x": ("float", [1.5, -2.0])}
    data = example_of(message((3, b"\x08\x01\x08\x80\x01")))
    assert decode_wire(data) == {"x": ("int64", [1, 128])}
    assert tf.train.Example.FromString(data).features.feature["x"].int64_list.value == [1, 128]


def test_a_list_in_pieces_is_joined_as_protobuf_does():
    data = example_of(message((3, message((1, b"\x01"), (1, b"\x02"))), (3, message((1, b"\x03")))))
    assert decode_wire(data) == {"x": ("int64", [1, 2, 3])}
    assert tf.train.Example.FromString(data).features.feature["x"].int64_list.value == [1, 2, 3]


def test_a_feature_without_a_list_has_no_values():
    assert decode_wire(tf_example(x=tf.train.Feature()).SerializeToString()) == {"x": ("bytes", [])}


@pytest.mark.parametrize("example", [values(), values(box_label=[1, 300], words=["ab", "c"])])
def test_an_example_cut_anywhere_is_refused_or_lacks_features(example):
    codec = ExampleCodec(ALL_KINDS)
    data = codec.encode(example)
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"at byte \d+|missing"):
            codec.decode(data[:length])


@settings(max_examples=300)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_damaged_example_is_refused_or_read_as_tensorflow_reads_it(place, byte):
    data = bytearray(ExampleCodec(ALL_KINDS).encode(values(box_label=[1, 300], words=["ab", "c"])))
    data[place % len(data)] = byte
    try:
        ours = decode_wire(bytes(data))
    except ValueError as error:
        assert "at byte" in str(error)  # noqa: PT017 (most damage is refused, some is not)
        return
    theirs = tf.train.Example.FromString(bytes(data)).features.feature
    assert {name: len(items) for name, (_, items) in ours.items()} == {
        name: len(getattr(feature, feature.WhichOneof("kind") or "bytes_list").value)
        for name, feature in theirs.items()
    }


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (example_of(message((3, message((1, b"\x80" * 10 + b"\x01"))))), "has more than 10 bytes"),
        (example_of(message((3, message((1, b"\x01" * 11 + b"\x80"))))), "is cut off"),
        (example_of(message((3, message((1, b"\x80"))))), "a varint does not end"),
        (example_of(message((2, message((1, b"abc"))))), "not a multiple of 4"),
        (example_of(message((4, b""))), "field 4 of wire type 2 is unknown here"),
        (example_of(b"\x08\x01"), "field 1 of wire type 0 is unknown here"),
        (message((1, message((1, message((1, b"\xff")))))), "name is not UTF-8"),
        (b"\x0b", "wire type 3 is unknown"),
        (b"\x80" * 10, "a varint does not end"),
        (b"\x0a\x05", "needs 5 bytes more"),
    ],
)
def test_damage_is_told_with_its_place(data, what):
    with pytest.raises(ValueError, match=rf"got at byte \d+: .*{what}"):
        decode_wire(data)
