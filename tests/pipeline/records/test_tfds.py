"""TensorFlow Datasets loads a record set as it is. One module: its import takes seconds."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.records.manifest import PartInfo, ShardInfo, read_manifest
from pipeline.records.tfds import shard_file, tfds_name, write_tfds_metadata
from pipeline.records.tfrecord import RecordWriter, read_records
from records_factory import write_toy_records


def stored_examples(folder, manifest, part):
    codec = ExampleCodec(manifest.features)
    for shard in manifest.shards_of([part]):
        with (folder / shard.file).open("rb") as file:
            yield from (codec.decode(data) for _, data in read_records(file, shard.file))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return folder, write_toy_records(folder, parts=("fold0", "fold1", "test-a"), rows=18)


@pytest.mark.parametrize("part", ["fold0", "test-a"])
def test_every_feature_of_every_example_comes_back(toy, part):
    folder, manifest = toy
    dataset = tfds.builder_from_directory(folder).as_dataset(split=part)
    loaded = {example["row"]: example for example in dataset.as_numpy_iterator()}
    stored = list(stored_examples(folder, manifest, part))
    assert {example["row"] for example in stored} == set(loaded)
    assert len(stored) == 6
    for example in stored:
        theirs = loaded[example["row"]]
        assert theirs.keys() == example.keys()
        pixels = tf.io.decode_image(example.pop("image")).numpy()
        np.testing.assert_array_equal(theirs["image"], pixels)
        for name, value in example.items():
            wanted = value.encode() if isinstance(value, str) else value
            np.testing.assert_equal(theirs[name], np.asarray(wanted)[()])


def test_the_splits_are_the_parts_with_their_counts(toy):
    folder, manifest = toy
    splits = tfds.builder_from_directory(folder).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {
        part.part: part.examples for part in manifest.parts
    }
    assert [splits["fold1"].shard_lengths] == [[3, 3]]


def test_images_and_targets_come_as_pairs_when_asked(toy):
    dataset = tfds.builder_from_directory(toy[0]).as_dataset(split="fold0", as_supervised=True)
    image, target = next(iter(dataset))
    assert image.shape == (32, 32, 3)
    assert target.dtype == tf.int64


def test_lists_of_images_boxes_and_soft_labels_come_back(tmp_path, toy):
    features = (
        Feature(name="box_label", dtype="int64", shape=(None,), role="box_label"),
        Feature(name="boxes", dtype="float32", shape=(None, 4), role="box"),
        Feature(name="csv a/b", dtype="string"),
        Feature(name="image", dtype="bytes", shape=(None,), role="image"),
        Feature(name="sha256", dtype="bytes"),
        Feature(name="target", dtype="float32", shape=(3,), role="target"),
        Feature(name="words", dtype="string", shape=(None,)),
    )
    jpeg = tf.io.encode_jpeg(tf.fill([8, 8, 3], tf.constant(90, tf.uint8))).numpy()
    example = {
        "box_label": [1, 2],
        "boxes": [[0.0, 1.0, 2.0, 3.0]] * 2,
        "csv a/b": "x",
        "image": [jpeg, jpeg],
        "sha256": b"\x00\xff",
        "target": [0.25, 0.5, 1.0],
        "words": ["a", ""],
    }
    nothing = {**example, "box_label": [], "boxes": [], "words": [], "image": []}
    path = tmp_path / shard_file("toy", "train", 0, 1)
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for one in (example, nothing):
            writer.write(ExampleCodec(features).encode(one))
    shard = ShardInfo(file=path.name, part="train", examples=2, bytes=writer.bytes, sha256="")
    part = PartInfo(part="train", fold=-1, examples=2, groups=2, classes={})
    manifest = dataclasses.replace(
        read_manifest(str(toy[0])), size=8, features=features, parts=(part,), shards=(shard,)
    )
    write_tfds_metadata(str(tmp_path), manifest)
    dataset = tfds.builder_from_directory(tmp_path).as_dataset(split="train")
    full, empty = dataset.as_numpy_iterator()
    assert full["image"].shape == (2, 8, 8, 3)
    assert full["words"].tolist() == [b"a", b""]
    assert full["sha256"] == b"\x00\xff"
    for name in ("box_label", "boxes", "target"):
        np.testing.assert_array_equal(full[name], example[name])
    assert (empty["image"].shape, empty["boxes"].shape) == ((0, 8, 8, 3), (0, 4))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("siim2020", "siim2020"),
        ("SIIM-ISIC 2020", "siim_isic_2020"),
        ("2020", "records_2020"),
        ("é", "records"),
    ],
)
def test_a_name_is_made_one_that_tfds_allows(name, safe):
    assert tfds_name(name) == safe
    assert tfds.core.naming.is_valid_dataset_and_class_name(safe)


def test_a_shard_is_named_as_tfds_names_it():
    name = shard_file("Toy", "fold0", 3, 12)
    template = tfds.core.ShardedFileTemplate(
        data_dir="", dataset_name="toy", split="fold0", filetype_suffix="tfrecord"
    )
    assert template.sharded_filepaths(12)[3].name == name


@pytest.mark.parametrize("part", ["all", "a.b", "", "train+test", "é"])
def test_a_part_that_cannot_be_a_split_is_refused(part):
    with pytest.raises(
        ValueError, match=r"part must be of letters, digits, _ and -, and not 'all'"
    ):
        shard_file("toy", part, 0, 1)


def test_a_manifest_with_other_file_names_is_refused(tmp_path, toy):
    shard = dataclasses.replace(toy[1].shards[0], file="fold0.tfrecord")
    manifest = dataclasses.replace(toy[1], shards=(shard,))
    with pytest.raises(
        ValueError, match=r"file of shard 0 of fold0 must be toy-fold0.* got fold0.tf"
    ):
        write_tfds_metadata(str(tmp_path), manifest)


def test_the_files_are_the_same_each_time(tmp_path, toy):
    folder, manifest = toy
    write_tfds_metadata(str(tmp_path), manifest)
    for name in ("dataset_info.json", "features.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        assert json.loads((tmp_path / name).read_text())
