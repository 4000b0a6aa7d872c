"""Batches: each example where it belongs, once, in an order that a seed and a position decide."""

import dataclasses

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf

from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.records.manifest import ManifestError, read_rows, write_manifest
from pipeline.records.tfrecord import RecordError, RecordWriter, read_records
from pipeline.stream.augment.colour import Brightness
from pipeline.stream.augment.geometry import FlipLeftRight, Transpose
from pipeline.stream.batches import Position, TrainingStream, evaluation_batches
from pipeline.stream.damage import naming_damage
from pipeline.stream.held import open_examples
from pipeline.stream.records import Portion, open_records
from pipeline.stream.render import decode
from records_factory import write_toy_records

ALL = ("fold0", "fold1", "fold2", "fold3")
OPS = (FlipLeftRight(), Transpose(), Brightness(max_delta=0.2))
both_caches = pytest.mark.parametrize("cache", ["memory", "none"])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder, rows=40, unlabelled=("fold3",))
    return open_records(str(folder))


def rows_of(batches):
    return [row for inputs, _, _ in batches.as_numpy_iterator() for row in inputs["row"].tolist()]


def assert_same(batches, others):
    """Two lists of batches, equal to the bit."""
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    tf.nest.map_structure(np.testing.assert_array_equal, batches, others)


def epoch(stream, number=0, examples=0):
    return stream.epoch(Position(epoch=number, examples=examples)).as_numpy_iterator()


@both_caches
def test_evaluation_gives_each_example_of_its_parts_once_and_pads_the_rest(records, cache):
    batches = evaluation_batches(records, ["fold1", "fold3"], batch_size=8, cache=cache)
    table = read_rows(records.folder)
    masks = np.concatenate([mask for _, _, mask in batches.as_numpy_iterator()])
    rows = np.array(rows_of(batches))
    assert sorted(rows[masks == 1]) == table["row"][table["part"].isin(["fold1", "fold3"])].tolist()
    assert rows[masks == 0].tolist() == [-1] * 4
    assert masks.tolist() == [1] * 20 + [0] * 4


@both_caches
def test_a_batch_holds_image_row_and_target_of_the_same_example(records, cache):
    codec = ExampleCodec(records.manifest.features)
    stored = {}
    for path in records.paths_of(["fold0", "fold3"]):
        with open(path, "rb") as file:  # noqa: PTH123
            examples = [codec.decode(data) for _, data in read_records(file, path)]
        stored |= {example["row"]: example for example in examples}
    stream = TrainingStream(records, ["fold0", "fold3"], batch_size=4, seed=1, cache=cache)
    for inputs, targets, mask in epoch(stream):
        assert mask.tolist() == [1, 1, 1, 1]
        for image, row, target in zip(
            inputs["image"], inputs["row"], targets["target"], strict=True
        ):
            pixels = simplejpeg.decode_jpeg(stored[row]["image"])
            np.testing.assert_array_equal(image, pixels)
            assert target == stored[row]["target"]


@both_caches
def test_shapes_are_static_and_padding_is_nothing(records, cache):
    table = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    batches = evaluation_batches(records, ["fold2"], batch_size=16, metadata=table, cache=cache)
    inputs, targets, mask = batches.element_spec
    assert inputs["image"] == tf.TensorSpec([16, 32, 32, 3], tf.uint8)
    assert inputs["metadata"] == tf.TensorSpec([16, 5], tf.float32)
    assert inputs["row"] == targets["target"] == tf.TensorSpec([16], tf.int64)
    assert mask == tf.TensorSpec([16], tf.float32)
    ((inputs, targets, _),) = batches.as_numpy_iterator()
    np.testing.assert_array_equal(inputs["metadata"][:10], table[inputs["row"][:10]])
    assert not inputs["metadata"][10:].any()
    assert not inputs["image"][10:].any()
    assert targets["target"][10:].tolist() == [-1] * 6


@both_caches
def test_an_epoch_has_no_example_twice_and_none_of_another_part(records, cache):
    stream = TrainingStream(records, ["fold0", "fold1", "fold2"], batch_size=4, seed=1, cache=cache)
    table = read_rows(records.folder)
    rows = rows_of(stream.epoch())
    assert stream.steps_per_epoch == 7
    assert len(set(rows)) == len(rows) == 28
    assert set(rows) <= set(table["row"][table["part"] != "fold3"])


@pytest.mark.parametrize(("cache", "buffer"), [("memory", 1), ("none", 7), ("none", 100)])
def test_an_interrupted_epoch_goes_on_with_the_same_batches(records, cache, buffer):
    stream = TrainingStream(
        records, ALL, batch_size=4, seed=1, ops=OPS, cache=cache, shuffle_buffer=buffer
    )
    whole = list(epoch(stream, 2))
    for steps in (1, 9):
        position = stream.after(Position(epoch=2), steps)
        assert_same(epoch(stream, 2, position.examples), whole[steps:])


@both_caches
def test_batches_depend_on_neither_the_number_of_threads_nor_tensorflows_global_seed(
    records, cache
):
    def batches(threads, global_seed):
        tf.random.set_seed(global_seed)
        stream = TrainingStream(records, ALL, batch_size=4, seed=5, ops=OPS, cache=cache)
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        return stream.epoch(Position(epoch=3)).with_options(options).as_numpy_iterator()

    assert_same(batches(1, global_seed=1), batches(6, global_seed=2))


@both_caches
def test_the_order_and_the_augmentation_differ_from_epoch_to_epoch_and_seed_to_seed(records, cache):
    def first(seed, number):
        stream = TrainingStream(records, ALL, batch_size=40, seed=seed, ops=OPS, cache=cache)
        ((inputs, _, _),) = epoch(stream, number)
        return inputs["row"].tolist(), inputs["image"][np.argsort(inputs["row"])]

    seen = [first(1, 0), first(1, 1), first(2, 0)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert seen[i][0] != seen[j][0]
        assert not np.array_equal(seen[i][1], seen[j][1])


def test_augmentation_leaves_evaluation_alone(records):
    plain = TrainingStream(records, ALL, batch_size=40, seed=1)
    ((trained, _, _),) = epoch(plain)
    ((scored, _, _),) = evaluation_batches(records, ALL, batch_size=40).as_numpy_iterator()
    order = np.argsort(trained["row"])
    np.testing.assert_array_equal(
        trained["image"][order], scored["image"][np.argsort(scored["row"])]
    )


@both_caches
def test_a_smaller_image_is_the_mean_of_what_it_covers(records, cache):
    ((large, _, _),) = evaluation_batches(records, ["fold0"], batch_size=10).as_numpy_iterator()
    ((small, _, _),) = evaluation_batches(
        records, ["fold0"], batch_size=10, image_size_px=16, cache=cache
    ).as_numpy_iterator()
    means = large["image"].reshape(10, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(small["image"], means, atol=0.51)


@pytest.fixture
def decoded(monkeypatch):
    """A list that gets one longer with each image that is decoded."""
    calls = []

    def counting(*args, **kwargs):
        calls.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr("pipeline.stream.source.decode", counting)
    return calls


def test_held_examples_are_decoded_once_however_many_epochs_follow(records, decoded):
    held = TrainingStream(records, ["fold0"], batch_size=4, seed=1, cache="memory")
    assert len(decoded) == 10
    next(epoch(held, 0))  # broken off
    assert len(rows_of(held.epoch()) + rows_of(held.epoch(Position(epoch=1)))) == 16
    assert len(decoded) == 10
    streamed = TrainingStream(records, ["fold0"], batch_size=5, seed=1, cache="none")
    assert len(rows_of(streamed.epoch()) + rows_of(streamed.epoch(Position(epoch=1)))) == 20
    assert len(decoded) == 30


def test_what_is_skipped_is_not_decoded(records, decoded):
    stream = TrainingStream(records, ALL, batch_size=4, seed=1, cache="none")
    assert len(rows_of(stream.epoch(Position(examples=32)))) == 8
    assert len(decoded) == 8


def test_auto_holds_what_fits_in_memory(records, monkeypatch):
    kinds = []
    for memory in (10 * 2**30, 10_000):
        monkeypatch.setattr("pipeline.stream.held.memory_bytes", lambda memory=memory: memory)
        kinds.append(
            type(open_examples([Portion(records=records, parts=("fold0",))], None)).__name__
        )
    assert kinds == ["HeldExamples", "StreamedExamples"]


def test_a_position_moves_on_through_the_epochs(records):
    stream = TrainingStream(records, ["fold0", "fold1"], batch_size=6, seed=1)
    assert stream.steps_per_epoch == 3
    assert stream.after(Position(), 2) == Position(examples=12)
    assert stream.after(Position(examples=12), 1) == Position(epoch=1)
    assert stream.after(Position(epoch=4, examples=6), 7) == Position(epoch=6, examples=12)


@both_caches
def test_soft_labels_and_vectors_stream_as_images_do(tmp_path, records, cache):
    features = (
        Feature(name="row", dtype="int64", role="row"),
        Feature(name="target", dtype="float32", shape=(3,), role="target"),
        Feature(name="values", dtype="float32", shape=(12_210,), role="values"),
    )
    values = np.random.default_rng(0).normal(size=(5, 12_210)).astype(np.float32)
    with (tmp_path / "toy-train.tfrecord").open("wb") as file:
        writer = RecordWriter(file)
        for row in range(5):
            example = {"row": row, "target": [0.1, 0.9, -1.0], "values": values[row]}
            writer.write(ExampleCodec(features).encode(example))
    manifest = records.manifest
    shard = dataclasses.replace(
        manifest.shards[0], file="toy-train.tfrecord", part="train", examples=5, bytes=writer.bytes
    )
    part = dataclasses.replace(manifest.parts[0], part="train", examples=5)
    write_manifest(
        str(tmp_path),
        dataclasses.replace(manifest, size=None, features=features, shards=(shard,), parts=(part,)),
    )
    spectra = open_records(str(tmp_path))
    stream = TrainingStream(spectra, ["train"], batch_size=5, seed=0, ops=OPS, cache=cache)
    ((inputs, targets, _),) = epoch(stream)
    np.testing.assert_array_equal(inputs["values"], values[inputs["row"]])
    np.testing.assert_array_equal(targets["target"], np.float32([[0.1, 0.9, -1]] * 5))
    assert "image" not in inputs


@pytest.mark.parametrize("kind", ["multilabel", "none"])
def test_targets_are_those_of_the_label(tmp_path, kind):
    write_toy_records(tmp_path, kind=kind, rows=8)
    batches = evaluation_batches(open_records(str(tmp_path)), ALL, batch_size=16)
    ((_, targets, mask),) = batches.as_numpy_iterator()
    assert mask.sum() == 8
    if kind == "none":
        assert targets == {}
    else:
        assert set(np.unique(targets["target"][:8])) == {0, 1}
        assert (targets["target"][8:] == -1).all()


def test_a_batch_larger_than_its_parts_is_refused(records):
    with pytest.raises(ValueError, match=r"batch_size must be at most .* fold0, 10, got 11"):
        TrainingStream(records, ["fold0"], batch_size=11, seed=0)


def test_a_part_that_is_not_there_is_refused(records):
    with pytest.raises(ManifestError, match=r"part must be one of fold0, .* got 'fold9'"):
        evaluation_batches(records, ["fold9"], batch_size=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"image_size_px": 64}, "image_size_px must be from 1 to the 32 px .* got 64"),
        ({"metadata": np.zeros((40, 2))}, r"metadata must be float32 \[rows, M\], got float64"),
        ({"metadata": np.zeros(40, np.float32)}, r"got float32 of shape \(40,\)"),
    ],
)
def test_settings_that_make_no_stream_are_refused(records, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluation_batches(records, ["fold0"], **{"batch_size": 4, **settings})


@both_caches
def test_a_damaged_shard_stops_the_epoch_with_file_record_and_byte(tmp_path, cache):
    manifest = write_toy_records(tmp_path)
    path = tmp_path / manifest.shards[0].file
    data = bytearray(path.read_bytes())
    data[-10] ^= 4
    path.write_bytes(bytes(data))
    records = open_records(str(tmp_path))
    with (
        pytest.raises(RecordError, match=rf"{path}: record 4 at byte \d+: checksum of the data"),
        naming_damage(records, ["fold0"]),
    ):
        rows_of(evaluation_batches(records, ["fold0"], batch_size=4, cache=cache))


def test_a_shard_with_fewer_examples_than_the_manifest_says_is_an_error(tmp_path):
    manifest = write_toy_records(tmp_path)
    first = dataclasses.replace(manifest.shards[0], examples=manifest.shards[0].examples + 1)
    write_manifest(
        str(tmp_path), dataclasses.replace(manifest, shards=(first, *manifest.shards[1:]))
    )
    batches = evaluation_batches(open_records(str(tmp_path)), ["fold0"], batch_size=4, cache="none")
    with pytest.raises(tf.errors.FailedPreconditionError, match="11"):
        rows_of(batches)


def test_an_error_that_no_damage_explains_stays_as_it_is(records):
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"), naming_damage(records, ALL):
        raise tf.errors.InvalidArgumentError(None, None, "mine")


def test_a_list_of_images_is_not_streamed_yet(records):
    features = tuple(
        dataclasses.replace(f, shape=(None,)) if f.role == "image" else f
        for f in records.manifest.features
    )
    lists = dataclasses.replace(
        records, manifest=dataclasses.replace(records.manifest, features=features)
    )
    with pytest.raises(ValueError, match=r"'image' must be one an example .* got shape \(None,\)"):
        evaluation_batches(lists, ["fold0"], batch_size=2)
