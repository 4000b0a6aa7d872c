"""Records that others wrote, once adopted, stream like our own: rows by place, targets by role."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.records.adopt import adopt_records
from pipeline.records.adopt_spec import AdoptSpec
from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature
from pipeline.records.manifest import read_rows
from pipeline.records.tfrecord import RecordWriter
from pipeline.stream.batches import Position, TrainingStream, evaluation_batches
from pipeline.stream.records import open_records
from records_factory import toy_jpeg

FEATURES = (
    Feature(name="image/encoded", dtype="bytes"),
    Feature(name="image_id", dtype="string"),
    Feature(name="label", dtype="int64"),
)
SHADES = {0: [0, 0, 0], 1: [1, 1, 1]}


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """Three files of 5, 3 and 4 records; the second is the part `val`."""
    folder = tmp_path_factory.mktemp("foreign")
    rng, codec, number = np.random.default_rng(5), ExampleCodec(FEATURES), 0
    for file, count in (("a.tfrecord", 5), ("b.tfrecord", 3), ("c.tfrecord", 4)):
        with (folder / file).open("wb") as out:
            writer = RecordWriter(out)
            for _ in range(count):
                label = (number * number) % 2
                image = toy_jpeg(SHADES[label], 32, rng)
                values = {"image/encoded": image, "image_id": f"I{number}", "label": label}
                writer.write(codec.encode(values))
                number += 1
    adopt(folder)
    return str(folder)


def adopt(folder, **settings):
    with ThreadPoolExecutor(2) as pool:
        spec = AdoptSpec(parts={"b*": "val", "*": "train"}, **settings)
        return adopt_records(str(folder), spec, pool)[0]


def by_row(batches):
    """Row → (target, brightness) of the examples that are no padding."""
    found = {}
    for inputs, targets, mask in batches.as_numpy_iterator():
        for row, target, image, is_real in zip(
            inputs["row"], targets["target"], inputs["image"], mask, strict=True
        ):
            if is_real:
                assert row not in found
                found[int(row)] = (int(target), float(image.mean()))
    return found


@pytest.mark.parametrize("cache", ["none", "memory"])
@pytest.mark.parametrize("parts", [["train"], ["val"], ["val", "train"]])
def test_each_row_comes_once_with_its_own_image_and_target(adopted, parts, cache):
    rows = read_rows(adopted).set_index("row")
    batches = evaluation_batches(open_records(adopted), parts, batch_size=4, cache=cache)
    found = by_row(batches)
    assert sorted(found) == rows.index[rows["part"].isin(parts)].tolist()
    for row, (target, brightness) in found.items():
        assert target == rows["target"][row]
        assert (brightness > 128) == (target == 1)


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_training_epoch_shuffles_and_keeps_row_and_target_together(adopted, cache):
    rows = read_rows(adopted).set_index("row")
    stream = TrainingStream(open_records(adopted), ["train"], batch_size=3, seed=1, cache=cache)
    orders = []
    for epoch in range(2):
        found = by_row(stream.epoch(Position(epoch=epoch)))
        assert sorted(found) == rows.index[rows["part"] == "train"].tolist()
        assert all(target == rows["target"][row] for row, (target, _) in found.items())
        orders.append(list(found))
    assert orders[0] != orders[1]
    assert by_row(stream.epoch(Position(epoch=0, examples=3))).keys() == set(orders[0][3:])


def test_red_and_blue_that_were_swapped_are_swapped_back(adopted, tmp_path):
    folder = shutil.copytree(adopted, tmp_path / "set")
    rng, codec = np.random.default_rng(6), ExampleCodec(FEATURES)
    with (folder / "b.tfrecord").open("wb") as out:
        image = toy_jpeg([0, 0, 1], 32, rng)  # bright in what is stored as blue
        values = {"image/encoded": image, "image_id": "I0b", "label": 0}
        RecordWriter(out).write(codec.encode(values))
    manifest = adopt(folder, is_red_blue_swapped=True)
    assert manifest.pixel_mean[0] > manifest.pixel_mean[2]
    batches = evaluation_batches(open_records(str(folder)), ["val"], batch_size=1)
    ((inputs, _, _),) = batches.as_numpy_iterator()
    red, _, blue = inputs["image"].mean(axis=(0, 1, 2))
    assert red > 150 > 100 > blue
