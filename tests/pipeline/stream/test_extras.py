"""Extra record sets: they train beside the first, weigh what they should, and never leak."""

import dataclasses
import logging

import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.records.features import Feature
from pipeline.records.manifest import read_rows, write_rows
from pipeline.records.tfrecord import RecordError
from pipeline.stream.augment.geometry import Transpose
from pipeline.stream.batches import Position, TrainingStream
from pipeline.stream.damage import naming_damage
from pipeline.stream.extras import ExtraConfig, open_extras, refuse_leaks, with_extra_rows
from pipeline.stream.records import open_records
from records_factory import LABELS, write_toy_records
from records_rewriter import SHA256, rewrite, with_digests

MAIN = ("fold0", "fold1", "fold2")
both_caches = pytest.mark.parametrize("cache", ["memory", "none"])


@pytest.fixture
def main(tmp_path):
    write_toy_records(tmp_path / "main", rows=24)
    return open_records(str(tmp_path / "main"))


@pytest.fixture
def other(tmp_path):
    """The folder of a set of 10 rows that nobody has changed yet."""
    write_toy_records(tmp_path / "other", rows=10, parts=("train", "rest"), seed=9)
    return tmp_path / "other"


def batches_of(stream, epochs=1):
    return [batch for epoch in range(epochs) for batch in stream.epoch(Position(epoch=epoch))]


def column(batches, name):
    return np.concatenate([inputs[name].numpy() for inputs, _, _ in batches])


@both_caches
def test_extra_examples_train_beside_the_first_with_rows_counted_on_and_their_weight(
    main, other, cache
):
    extras = open_extras([ExtraConfig(records=str(other), weight=0.5)], main)
    stream = TrainingStream(main, MAIN, batch_size=4, seed=1, extras=extras, cache=cache)
    batches = batches_of(stream)
    rows = column(batches, "row")
    masks = np.concatenate([mask.numpy() for _, _, mask in batches])
    table = read_rows(main.folder)
    of_main = set(table["row"][table["part"].isin(MAIN)])
    assert len(rows) == (len(of_main) + 10) // 4 * 4 == len(set(rows))
    assert set(rows) <= of_main | set(range(24, 34))
    np.testing.assert_array_equal(masks, np.where(rows < 24, 1.0, 0.5))


@both_caches
def test_each_set_is_read_by_its_own_features(main, other, cache):
    jpegs = {}

    def change(example):
        jpegs[24 + example["row"]] = example["image"]
        return example

    manifest = rewrite(other, change)
    image = next(f for f in manifest.features if f.role == "image")
    rewrite(
        other,
        lambda example: {**example, "jpeg": example["image"], "site": "arm"},
        leave_out=["image", "sex"],
        add=[
            dataclasses.replace(image, name="jpeg"),
            Feature(name="site", dtype="string", role="category"),
        ],
    )
    extras = open_extras([ExtraConfig(records=str(other), parts=("train",))], main)
    stream = TrainingStream(main, MAIN, batch_size=24, seed=1, extras=extras, cache=cache)
    [(inputs, _, mask)] = batches_of(stream)
    rows = inputs["row"].numpy()
    assert set(rows[rows >= 24]) <= set(range(24, 34))
    assert (rows >= 24).sum() >= 4
    assert (mask.numpy() == 1).all()
    assert inputs["image"].shape == (24, 32, 32, 3)


@both_caches
def test_red_and_blue_of_a_set_that_swapped_them_are_swapped_back(main, other, cache):
    extras = open_extras([ExtraConfig(records=str(other))], main)
    rewrite(other, is_red_blue_swapped=True)
    swapped = open_extras([ExtraConfig(records=str(other))], main)
    images = []
    for sets in (extras, swapped):
        stream = TrainingStream(main, MAIN, batch_size=28, seed=1, extras=sets, cache=cache)
        [(inputs, _, _)] = batches_of(stream)
        images.append(inputs["image"].numpy())
    is_extra = inputs["row"].numpy() >= 24
    assert is_extra.any()
    np.testing.assert_array_equal(images[0][~is_extra], images[1][~is_extra])
    np.testing.assert_array_equal(images[0][is_extra], images[1][is_extra][..., ::-1])


def test_sets_of_several_sizes_are_cut_to_one(tmp_path, main):
    write_toy_records(tmp_path / "large", rows=10, size_px=48)
    extras = open_extras([ExtraConfig(records=str(tmp_path / "large"))], main)
    stream = TrainingStream(main, MAIN, batch_size=28, seed=1, extras=extras, ops=[Transpose()])
    [(inputs, _, _)] = batches_of(stream)
    assert inputs["image"].shape == (28, 32, 32, 3)


@both_caches
def test_sampling_draws_from_all_sets(main, other, cache):
    extras = open_extras([ExtraConfig(records=str(other))], main)
    stream = TrainingStream(
        main, MAIN, batch_size=4, seed=1, extras=extras, sampling="balanced", cache=cache
    )
    batches = batches_of(stream, epochs=3)
    assert set(column(batches, "row")) > set(range(24, 34))
    targets = np.concatenate([targets["target"].numpy() for _, targets, _ in batches])
    assert abs(np.bincount(targets)[0] - len(targets) / 2) <= 3


@both_caches
def test_a_rows_weight_multiplies_its_sets(main, other, cache):
    weight = Feature(name="trust", dtype="float32", role="weight")
    values = {0: 2.0, 1: 0.25, 2: float("nan")}
    rewrite(
        other,
        lambda example: {**example, "trust": values.get(example["row"], 1.0)},
        add=[weight],
    )
    extras = open_extras([ExtraConfig(records=str(other), weight=0.5)], main)
    stream = TrainingStream(main, ["fold0"], batch_size=2, seed=1, extras=extras, cache=cache)
    masks = {
        row: weight
        for inputs, _, mask in batches_of(stream)
        for row, weight in zip(inputs["row"].numpy(), mask.numpy(), strict=True)
    }
    assert [masks[24 + row] for row in range(3)] == [1.0, 0.125, 0.5]
    assert {weight for row, weight in masks.items() if row < 24} == {1.0}


def test_metadata_of_extras_is_encoded_alike_and_missing_where_they_have_none(main, other):
    rewrite(other, leave_out=["sex"])
    extras = open_extras([ExtraConfig(records=str(other), parts=("train",))], main)
    rows = read_rows(main.folder)
    table = with_extra_rows(rows, main, extras)
    encoder = MetadataEncoder.fit(rows, ["sex"], ["age_approx"])
    encoded = encoder.encode_by_row(table)
    own = read_rows(str(other)).set_index("row")
    new = table[table["part"] == "extra0"]
    assert set(new["row"] - 24) == set(own.index[own["part"] == "train"])
    assert set(new["fold"]) == {-1}
    place = list(encoder.names).index("sex is missing")
    assert (encoded[new["row"], place] == 1).all()
    np.testing.assert_array_equal(
        new["age_approx"].to_numpy(), own.loc[new["row"] - 24, "age_approx"].to_numpy()
    )


def leaking(other, main):
    """Rows 3 and 7 of the set are two of the main set's fold1; those two."""
    table = read_rows(main.folder)
    first, second, *_ = table["row"][table["part"] == "fold1"]
    return {3: first, 7: second}


def refusal(main, config):
    """The message for a run of fold0 and fold1, where fold1 alone is leaked."""
    main = open_records(main.folder)
    extras = open_extras([config], main)
    refuse_leaks(main, extras, [config], [["fold0"], ["fold2"]])
    with pytest.raises(SettingsError) as told:
        refuse_leaks(main, extras, [config], [["fold0"], ["fold1"]])
    return str(told.value)


def test_an_extra_of_validation_sources_is_refused_by_row(main, other, tmp_path):
    with_digests(tmp_path / "main")
    same = leaking(other, main)
    rewrite(
        other,
        lambda example: {
            **example,
            "sha256": f"{same.get(example['row'], 900 + example['row']):064x}",
        },
        add=[SHA256],
    )
    told = refusal(main, ExtraConfig(records=str(other)))
    assert told.startswith(f"extra {str(other)!r}: no image must be one of the unseen parts")
    assert "fold1, got 2 of 10 (2 with the same source, 0 by duplicates): rows 3, 7 of" in told
    assert "ISIC" not in told


def test_an_extra_that_a_list_of_duplicates_pairs_with_validation_is_refused(main, other, tmp_path):
    ids, own = (read_rows(folder).set_index("row")["id"] for folder in (main.folder, str(other)))
    (one, first), (two, second) = leaking(other, main).items()
    path = tmp_path / "same.csv"
    # Written by comparing the first with the other, and the other with the first.
    path.write_text(
        f"id_1,id_2,distance\nA{ids[first]},{own[one]},2\n{own[two]},A{ids[second]},0\n"
    )
    table = read_rows(main.folder)
    write_rows(main.folder, table.assign(id="A" + table["id"]))
    told = refusal(main, ExtraConfig(records=str(other), duplicates=str(path)))
    assert "fold1, got 2 of 10 (0 with the same source, 2 by duplicates): rows 3, 7 of" in told


def test_parts_of_an_extra_that_are_not_taken_leak_nothing(main, other, tmp_path):
    with_digests(tmp_path / "main")
    with_digests(other, first=900)
    rows = read_rows(str(other))
    train_rows = set(rows["row"][rows["part"] == "train"])
    rewrite(
        other,
        lambda example: {
            **example,
            "sha256": example["sha256"] if example["row"] in train_rows else f"{0:064x}",
        },
    )
    main = open_records(main.folder)
    whole, part = (ExtraConfig(records=str(other), parts=parts) for parts in ((), ("train",)))
    refuse_leaks(main, open_extras([part], main), [part], [["fold0"]])
    with pytest.raises(SettingsError, match="fold0, got 4 of 10"):
        refuse_leaks(main, open_extras([whole], main), [whole], [["fold0"]])


def test_a_set_whose_leaks_cannot_be_seen_is_warned_of(main, other, caplog):
    config = ExtraConfig(records=str(other))
    with caplog.at_level(logging.WARNING):
        refuse_leaks(main, open_extras([config], main), [config], [["fold0"]])
    assert "holds images of unseen parts is not known" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": None}, "the records must hold images, got none"),
        ({"size": 16}, r"stored size must be 32 px or more, got 16; make its .* --sizes 32"),
        ({"label": LABELS["multilabel"]}, "label must be binary .* got multilabel"),
        (
            {"label": dataclasses.replace(LABELS["binary"], classes=("malignant", "benign"))},
            r"classes must be \['benign', 'malignant'\], in this order, .* got \['malignant'",
        ),
    ],
)
def test_a_set_that_cannot_train_beside_the_first_is_refused(main, other, changed, message):
    rewrite(other, **changed)
    with pytest.raises(SettingsError, match=f"^extra '{other}': {message}"):
        open_extras([ExtraConfig(records=str(other))], main)


def test_a_set_that_is_not_there_is_named_as_an_extra(main, other, tmp_path):
    gone = ExtraConfig(records=str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=f"^extra '{tmp_path}/gone': .*gone"):
        open_extras([gone], main)
    paired = ExtraConfig(records=str(other), duplicates=str(tmp_path / "pairs.csv"))
    extras = open_extras([paired], main)
    with pytest.raises(SettingsError, match=f"^extra '{other}': duplicates must be a file"):
        refuse_leaks(main, extras, [paired], [["fold0"]])


def test_a_smaller_set_serves_a_smaller_image(tmp_path, main):
    write_toy_records(tmp_path / "small", rows=10, size_px=16)
    extras = open_extras([ExtraConfig(records=str(tmp_path / "small"))], main, image_size_px=16)
    assert extras[0].examples == 10


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=f"weight must be a number above 0, got {weight}"):
        ExtraConfig(records="there", weight=weight)


@both_caches
def test_an_image_that_cannot_be_decoded_is_told_by_set_and_row(main, other, cache):
    rewrite(
        other,
        lambda example: (
            {**example, "image": example["image"][:300]} if example["row"] == 6 else example
        ),
    )
    extras = open_extras([ExtraConfig(records=str(other))], main)

    def train():
        stream = TrainingStream(main, MAIN, batch_size=28, seed=1, extras=extras, cache=cache)
        batches_of(stream)

    with (
        pytest.raises(RecordError, match=f"^{other}: row 6: the stored image must be whole, got"),
        naming_damage(main, MAIN, extras),
    ):
        train()


def test_damage_in_the_shard_of_an_extra_is_named(main, other):
    extras = open_extras([ExtraConfig(records=str(other))], main)
    path = other / extras[0].records.manifest.shards[0].file
    data = bytearray(path.read_bytes())
    data[-10] ^= 4
    path.write_bytes(bytes(data))
    with (
        pytest.raises(RecordError, match=rf"{path}: record \d at byte \d+: checksum of the data"),
        naming_damage(main, MAIN, extras),
    ):
        batches_of(TrainingStream(main, MAIN, batch_size=28, seed=1, extras=extras, cache="none"))
