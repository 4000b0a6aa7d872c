"""Records are read by what others use: TensorFlow alone, TensorFlow Datasets, Beam."""

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.make_records import main as make_records
from pipeline.phantom.write import PhantomSpec, write_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Records of phantoms at 48 px: (their folder, the CSV's lines by id)."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(PhantomSpec(patients=8, seed=5, sizes=((160, 120), (120, 160))), folder)
    flags = ["--spec", "datasets/phantom.toml", "--csv", f"{folder}/train.csv", "--folds", "3"]
    flags += ["--images", f"{folder}/jpeg", "--sizes", "48", "--output", f"{folder}/out"]
    assert make_records(flags) == 0
    lines = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
    return folder / "out" / "48", lines.set_index("image_name")


def check(ids, targets, sexes, lines):
    """What a reader found is what the CSV says."""
    assert sorted(ids) == sorted(lines.index)
    for name, target, sex in zip(ids, targets, sexes, strict=True):
        assert int(target) == int(lines.loc[name, "target"])
        assert sex == lines.loc[name, "sex"]


def test_tensorflow_alone_reads_them(phantom):
    import tensorflow as tf

    folder, lines = phantom
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "image_name": tf.io.FixedLenFeature([], tf.string),
        "target": tf.io.FixedLenFeature([], tf.int64),
        "sex": tf.io.FixedLenFeature([], tf.string),
        "age_approx": tf.io.FixedLenFeature([], tf.float32),
    }
    files = sorted(str(path) for path in folder.glob("*.tfrecord-*"))
    dataset = tf.data.TFRecordDataset(files)
    examples = [tf.io.parse_single_example(data, features) for data in dataset]
    assert {tf.io.decode_jpeg(example["image"]).shape for example in examples} == {(48, 48, 3)}
    check(
        [example["image_name"].numpy().decode() for example in examples],
        [example["target"].numpy() for example in examples],
        [example["sex"].numpy().decode() for example in examples],
        lines,
    )


def test_tensorflow_datasets_reads_them_split_by_split(phantom):
    import tensorflow_datasets as tfds

    folder, lines = phantom
    builder = tfds.builder_from_directory(folder)
    assert set(builder.info.splits) == {"fold0", "fold1", "fold2"}
    examples = []
    for fold in range(3):
        split = list(builder.as_dataset(split=f"fold{fold}").as_numpy_iterator())
        assert {example["fold"] for example in split} == {fold}
        examples += split
    assert {example["image"].shape for example in examples} == {(48, 48, 3)}
    assert {example["image"].dtype for example in examples} == {np.dtype("uint8")}
    check(
        [example["image_name"].decode() for example in examples],
        [example["target"] for example in examples],
        [example["sex"].decode() for example in examples],
        lines,
    )


def test_beam_reads_them(phantom):
    from pipeline.records.example import ExampleCodec
    from pipeline.records.manifest import read_manifest

    folder, lines = phantom
    codec = ExampleCodec(read_manifest(str(folder)).features)
    wanted = sorted((name, int(line["target"]), line["sex"]) for name, line in lines.iterrows())

    def check_all(found):
        assert sorted(found) == wanted

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromTFRecord(f"{folder}/*.tfrecord-*")
            | beam.Map(codec.decode)
            | beam.Map(lambda values: (values["image_name"], values["target"], values["sex"]))
            | beam.combiners.ToList()
            | beam.Map(check_all)
        )
