"""The reading half of the codec: what `ExampleCodec` writes, parsed inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.images.fit import fit_box, map_boxes
from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.stream.parse import parse_example, parse_spec


def parsed(features, *examples):
    """Each example, encoded by our codec and parsed in a tf.data pipeline."""
    data = [ExampleCodec(features).encode(example) for example in examples]
    dataset = tf.data.Dataset.from_tensor_slices(data)
    return list(dataset.map(lambda one: parse_example(one, features)).as_numpy_iterator())


def test_scalars_and_fixed_shapes_are_dense():
    features = [
        Feature(name="age", dtype="float32"),
        Feature(name="id", dtype="string"),
        Feature(name="target", dtype="int64"),
        Feature(name="values", dtype="float32", shape=(12_210,)),
        Feature(name="grid", dtype="int64", shape=(2, 3)),
    ]
    values = np.random.default_rng(1).normal(size=12_210).astype(np.float32)
    grid = np.arange(6).reshape(2, 3) - 3
    example = {"age": np.nan, "id": "é", "target": -1, "values": values, "grid": grid}
    (back,) = parsed(features, example)
    assert np.isnan(back["age"])
    assert (back["id"].decode(), back["target"]) == ("é", -1)
    np.testing.assert_array_equal(back["values"], values)
    np.testing.assert_array_equal(back["grid"], grid)


def test_a_sequence_has_every_feature_of_its_rows_as_a_list():
    features = [
        Feature(name="image", dtype="bytes", shape=(None,), role="image"),
        Feature(name="row", dtype="int64", shape=(None,), role="row"),
        Feature(name="sex", dtype="string", shape=(None,)),
        Feature(name="target", dtype="float32", shape=(None, 2), role="target"),
    ]
    three = {
        "image": [b"a", b"", b"ccc"],
        "row": [4, 5, 6],
        "sex": ["", "male", ""],
        "target": [[0, 1], [0.5, 0.5], [-1, -1]],
    }
    none = {"image": [], "row": [], "sex": [], "target": []}
    first, second = parsed(features, three, none)
    assert first["image"].tolist() == three["image"]
    assert first["sex"].tolist() == [b"", b"male", b""]
    np.testing.assert_array_equal(first["target"], np.float32(three["target"]))
    assert {name: value.shape for name, value in second.items()} == {
        "image": (0,), "row": (0,), "sex": (0,), "target": (0, 2),
    }  # fmt: skip


@pytest.mark.parametrize("boxes", [np.empty((0, 4)), [[10, 20, 110, 70]], [[0, 0, 400, 200]] * 3])
def test_boxes_arrive_as_they_were_fitted(boxes):
    features = [
        Feature(name="box_label", dtype="int64", shape=(None,), role="box_label"),
        Feature(name="boxes", dtype="float32", shape=(None, 4), role="box"),
    ]
    fitted = map_boxes(np.float32(boxes), fit_box(400, 200, 64, "pad"))
    labels = np.arange(len(fitted))
    (back,) = parsed(features, {"boxes": fitted, "box_label": labels})
    np.testing.assert_array_equal(back["boxes"], fitted)
    np.testing.assert_array_equal(back["box_label"], labels)


def test_soft_labels_keep_their_values():
    features = [Feature(name="target", dtype="float32", shape=(3,), role="target")]
    (back,) = parsed(features, {"target": [0.1, 0.2, 0.7]})
    np.testing.assert_array_equal(back["target"], np.float32([0.1, 0.2, 0.7]))


def test_only_the_features_that_are_asked_for_are_read():
    features = [Feature(name="a", dtype="int64"), Feature(name="b", dtype="int64")]
    data = ExampleCodec(features).encode({"a": 1, "b": 2})
    assert parse_example(tf.constant(data), features[:1]).keys() == {"a"}


def test_an_absent_feature_is_an_error_and_no_silent_zero():
    data = ExampleCodec([Feature(name="a", dtype="int64")]).encode({"a": 1})
    with pytest.raises(tf.errors.InvalidArgumentError, match="b"):
        parse_example(tf.constant(data), [Feature(name="b", dtype="int64")])


def test_the_spec_is_one_for_batches_too():
    features = [Feature(name="a", dtype="float32", shape=(2,))]
    data = [ExampleCodec(features).encode({"a": [i, -i]}) for i in range(3)]
    batch = tf.io.parse_example(data, parse_spec(features))
    np.testing.assert_array_equal(batch["a"], np.float32([[0, 0], [1, -1], [2, -2]]))
