"""`trainer.baselines.features`: what a picture becomes; training rows alone are fitted to."""

import dataclasses

import numpy as np
import pytest

from pipeline.errors import DataError, SettingsError
from pipeline.records.example import ExampleCodec
from pipeline.records.manifest import read_rows
from pipeline.records.tfrecord import RecordWriter, read_records
from pipeline.stream.records import open_records
from pipeline.stream.render import decode
from records_factory import write_toy_records
from trainer.baselines.features import (
    available_kinds,
    check_kinds,
    color_histogram,
    fold_features,
    read_pictures,
    small_pixels,
)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_histogram_is_the_roots_of_shares_of_cells():
    picture = noise(20, 20)
    counts, _ = np.histogramdd(picture.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
    np.testing.assert_allclose(color_histogram(picture) ** 2, counts.ravel() / 400, atol=1e-7)


@pytest.mark.parametrize("size", [(30, 20), (200, 260)], ids=["below 64 px", "above"])
def test_a_histogram_has_length_one_at_any_size(size):
    histogram = color_histogram(noise(*size))
    assert histogram.shape == (512,)
    assert histogram.dtype == np.float32
    assert np.linalg.norm(histogram) == pytest.approx(1, abs=1e-5)


def test_small_pixels_are_means_of_areas_of_the_central_square():
    picture = noise(8, 12)
    blocks = picture[:, 2:10].reshape(4, 2, 4, 2, 3).astype(float).mean(axis=(1, 3)) / 255
    pixels = small_pixels(picture, 4)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels.reshape(4, 4, 3), blocks, atol=0.51 / 255)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("toy"))
    write_toy_records(folder, rows=24, size_px=16)
    return open_records(folder), read_rows(folder)


def test_pictures_lie_beside_their_rows(toy):
    records, rows = toy
    pixels = read_pictures(records, rows, records.manifest.part_names, ["pixels"], 4)["pixels"]
    codec, seen = ExampleCodec(records.manifest.features), 0
    for path in records.paths_of(records.manifest.part_names):
        with open(path, "rb") as file:  # noqa: PTH123
            for _, data in read_records(file, path):
                values = codec.decode(data)
                [place] = np.flatnonzero(rows["row"] == values["row"])
                expected = small_pixels(decode(values["image"], None), 4)
                np.testing.assert_array_equal(pixels[place], expected)
                seen += 1
    assert seen == len(rows)


def test_other_parts_are_not_read(toy):
    records, rows = toy
    pixels = read_pictures(records, rows, ["fold1"], ["pixels"], 4)["pixels"]
    np.testing.assert_array_equal(pixels.any(axis=1), rows["part"] == "fold1")


def test_metadata_alone_reads_no_picture(toy):
    records, rows = toy
    nowhere = dataclasses.replace(records, folder="/nowhere")
    assert read_pictures(nowhere, rows, ["fold1"], ["metadata"], 4) == {}


def test_training_columns_have_mean_0_and_deviation_1_or_are_0(toy):
    records, rows = toy
    pictures = read_pictures(records, rows, records.manifest.part_names, ["histogram"], 4)
    is_train = (rows["fold"] != 2).to_numpy()
    kinds = ("histogram", "metadata")
    training = fold_features(kinds, pictures, rows, records.manifest, is_train)[is_train]
    deviation = training.std(axis=0, dtype=float)
    np.testing.assert_allclose(training.mean(axis=0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(deviation[deviation > 1e-6], 1, atol=1e-5)
    assert (deviation < 1e-6).any()


def test_validation_rows_do_not_change_what_training_rows_become(toy):
    records, rows = toy
    pictures = read_pictures(records, rows, records.manifest.part_names, ["pixels"], 4)
    is_train = (rows["fold"] != 2).to_numpy()
    kinds = ("pixels", "metadata")
    before = fold_features(kinds, pictures, rows, records.manifest, is_train)
    changed = rows.assign(
        sex=rows["sex"].where(is_train, "other"), age_approx=rows["age_approx"].where(is_train, 999)
    )
    others = {"pixels": np.where(is_train[:, None], pictures["pixels"], 7)}
    after = fold_features(kinds, others, changed, records.manifest, is_train)
    np.testing.assert_array_equal(before[is_train], after[is_train])
    assert not np.array_equal(before[~is_train], after[~is_train])


def test_a_record_whose_image_is_none_is_named(tmp_path):
    manifest = write_toy_records(tmp_path, rows=8, shards_per_part=1)
    codec, path = ExampleCodec(manifest.features), tmp_path / manifest.shards[0].file
    with path.open("rb") as file:
        examples = [codec.decode(data) for _, data in read_records(file, "shard")]
    examples[1]["image"] = examples[1]["image"][:40].ljust(len(examples[1]["image"]), b"\0")
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for example in examples:
            writer.write(codec.encode(example))
    records, rows = open_records(str(tmp_path)), read_rows(str(tmp_path))
    with pytest.raises(DataError, match=r"toy-fold0\S*: record 1 at byte \d+: "):
        read_pictures(records, rows, ["fold0"], ["pixels"], 4)


def test_features_that_the_records_cannot_give_are_refused(toy):
    manifest = toy[0].manifest
    bare = dataclasses.replace(
        manifest, features=tuple(f for f in manifest.features if f.role in ("image", "row"))
    )
    assert available_kinds(manifest) == ("pixels", "histogram", "metadata")
    assert available_kinds(bare) == ("pixels", "histogram")
    with pytest.raises(SettingsError, match="must be metadata columns for the feature 'metadata'"):
        check_kinds(["pixels", "metadata"], bare, 4)
    with pytest.raises(SettingsError, match="--pixels_px must be 16 or less"):
        check_kinds(["pixels"], manifest, 32)
