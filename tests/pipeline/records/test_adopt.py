"""`adopt_records`: others' TFRecords get a manifest and a row table, and are not touched."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError, SettingsError
from pipeline.records.adopt import adopt_records
from pipeline.records.adopt_spec import AdoptLabel, AdoptSpec, read_adopt_spec
from pipeline.records.example import ExampleCodec
from pipeline.records.features import Feature, with_role
from pipeline.records.manifest import read_manifest, read_rows
from pipeline.records.tfrecord import RecordWriter
from records_factory import toy_jpeg

KAGGLE = (
    Feature(name="image", dtype="bytes", role="image"),
    Feature(name="image_name", dtype="string"),
    Feature(name="patient_id", dtype="int64"),
    Feature(name="sex", dtype="int64"),
    Feature(name="age_approx", dtype="int64"),
    Feature(name="diagnosis", dtype="int64"),
    Feature(name="target", dtype="int64"),
)


def write_foreign(
    folder, files=("train00-3.tfrec", "train01-3.tfrec"), features=KAGGLE, first=0, **over
):
    """Files of three records each, in Kaggle's layout; `over` replaces values."""
    rng, codec, number = np.random.default_rng(1), ExampleCodec(features), first
    folder.mkdir(exist_ok=True)
    for file in files:
        with (folder / file).open("wb") as out:
            writer = RecordWriter(out)
            for _ in range(3):
                values = {
                    "image": toy_jpeg([number % 2, 0, 1], 32, rng), "image_name": f"I{9 - number}",
                    "patient_id": number // 2, "sex": number % 2, "age_approx": 40 + number,
                    "diagnosis": 5 * (number % 2), "target": number % 2, **over,
                }  # fmt: skip
                writer.write(codec.encode({feature.name: values[feature.name]
                                           for feature in features}))  # fmt: skip
                number += 1
    return folder


def adopt(folder, spec=None):
    with ThreadPoolExecutor(2) as pool:
        return adopt_records(str(folder), spec or AdoptSpec(), pool)


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrec")
    }


def test_what_features_mean_is_guessed_from_their_names_and_told(tmp_path):
    manifest, guesses = adopt(write_foreign(tmp_path / "set"))
    roles = {feature.name: feature.role for feature in manifest.features}
    assert roles == {
        "image": "image", "image_name": "id", "patient_id": "group", "sex": "category",
        "age_approx": "number", "diagnosis": "extra", "target": "target",
    }  # fmt: skip
    assert "patient_id is the group" in guesses
    assert "train00-3.tfrec is of part train" in guesses


def test_rows_are_numbered_by_place_and_hold_each_records_values(tmp_path):
    folder = write_foreign(tmp_path / "set")
    adopt(folder)
    rows = read_rows(str(folder))
    assert rows["row"].tolist() == list(range(6))
    assert rows["id"].tolist() == [f"I{9 - number}" for number in range(6)]
    assert rows["group"].tolist() == ["0", "0", "1", "1", "2", "2"]
    assert rows["target"].tolist() == [0, 1] * 3
    assert rows["age_approx"].tolist() == [40.0 + number for number in range(6)]


def test_codes_become_text_and_minus_one_is_missing(tmp_path):
    spec = AdoptSpec(
        roles={"diagnosis": "category"},
        codes={"sex": ["male", "female"], "diagnosis": {"0": "unknown", "5": "melanoma"}},
    )
    folder = write_foreign(tmp_path / "set")
    adopt(folder, spec)
    rows = read_rows(str(folder))
    assert rows["sex"].tolist() == ["male", "female"] * 3
    assert rows["diagnosis"].tolist() == ["unknown", "melanoma"] * 3
    unknown = write_foreign(tmp_path / "unknown", sex=-1)
    adopt(unknown, spec)
    assert set(read_rows(str(unknown))["sex"]) == {""}


def test_a_code_without_a_text_names_the_record(tmp_path):
    folder = write_foreign(tmp_path / "set")
    with pytest.raises(DataError, match=r"train00-3\.tfrec: record 1 at byte \d+: feature 'sex'"):
        adopt(folder, AdoptSpec(codes={"sex": ["male"]}))


def test_features_are_renamed_and_read_by_their_own_keys(tmp_path):
    features = tuple(
        Feature(name={"target": "label", "image": "img"}.get(f.name, f.name), dtype=f.dtype)
        for f in KAGGLE
    )
    rng = np.random.default_rng(2)
    folder = write_foreign(
        tmp_path / "set", features=features, img=toy_jpeg([0, 1, 0], 32, rng), label=1
    )
    adopt(folder, AdoptSpec(rename={"sex": "gender"}))
    manifest = read_manifest(str(folder))  # through JSON
    keys = {feature.name: feature.record_key for feature in manifest.features}
    assert (keys["target"], keys["image"], keys["gender"]) == ("label", "img", "sex")
    assert with_role(manifest.features, "target")[0].dtype == "int64"
    assert {"gender"} < set(read_rows(str(folder)).columns)


def test_files_are_put_into_parts_by_pattern(tmp_path):
    folder = write_foreign(tmp_path / "set")
    manifest, guesses = adopt(
        folder, AdoptSpec(parts={"train01*": "fold0", "*": "fold1"}, label=AdoptLabel(
            classes=("benign", "malignant")))
    )  # fmt: skip
    assert [(shard.file, shard.part) for shard in manifest.shards] == [
        ("train01-3.tfrec", "fold0"), ("train00-3.tfrec", "fold1"),
    ]  # fmt: skip
    assert manifest.first_rows == (0, 3)
    assert manifest.parts[0].classes == {"benign": 1, "malignant": 2}
    assert manifest.label.positive == ("malignant",)
    assert not [guess for guess in guesses if "part" in guess.split()]


def test_record_files_are_not_changed_and_may_be_adopted_again(tmp_path):
    folder = write_foreign(tmp_path / "set")
    before = digests(folder)
    first, _ = adopt(folder)
    again, _ = adopt(folder)
    assert digests(folder) == before == {shard.file: shard.sha256 for shard in first.shards}
    assert first == again


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rename": {"sexx": "gender"}}, "rename: no feature 'sexx' in the records; did you mean"),
        ({"roles": {"gender": "category"}}, "roles: no feature 'gender' in the records"),
        ({"roles": {"image": "number"}}, r"roles\.image: number must be float32 or int64"),
        ({"roles": {"sex": "id", "image_name": "id"}}, "roles: there must be one id, got"),
        ({"codes": {"image_name": ["a"]}}, "codes.image_name: the feature must be one int64"),
        ({"codes": {"sex": {"m": "male"}}}, "codes.sex: a code must be a whole number"),
        ({"parts": {"test*": "test"}}, "parts: every file must match a pattern"),
        ({"label": AdoptLabel(classes=("one",))}, "label.classes must be 2, got 1"),
        ({"rename": {"sex": "age_approx"}}, "rename: names must differ, got 'age_approx'"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(tmp_path, spec, message):
    with pytest.raises(SettingsError, match=message):
        adopt(write_foreign(tmp_path / "set"), AdoptSpec(**spec))


def test_a_role_or_part_that_is_none_is_named(tmp_path):
    (tmp_path / "codes.toml").write_text('roles = { sex = "gender" }\n')
    with pytest.raises(SettingsError, match=r"codes\.toml: roles\.sex must be one of"):
        read_adopt_spec(str(tmp_path / "codes.toml"))
    (tmp_path / "codes.toml").write_text('parts = { "a*" = "all" }\n')
    with pytest.raises(SettingsError, match="must be foldN or one of"):
        read_adopt_spec(str(tmp_path / "codes.toml"))


def test_records_that_differ_in_their_features_are_refused(tmp_path):
    folder = write_foreign(tmp_path / "set")
    write_foreign(folder, ["train02.tfrec"], [f for f in KAGGLE if f.name != "target"])
    with pytest.raises(DataError, match=r"train02\.tfrec: record 0 at byte 0: .*'target'"):
        adopt(folder)


def test_ids_that_repeat_and_images_of_several_sizes_are_refused(tmp_path):
    with pytest.raises(DataError, match="ids must differ, got 5 again"):
        adopt(write_foreign(tmp_path / "ids", image_name="I1"))
    folder = write_foreign(tmp_path / "sizes")
    rng = np.random.default_rng(3)
    write_foreign(folder, ["train02.tfrec"], first=6, image=toy_jpeg([0, 0, 0], 48, rng))
    with pytest.raises(DataError, match="squares of one size, got 32×32, 48×48"):
        adopt(folder)


def test_a_folder_without_records_or_with_our_own_is_refused(tmp_path):
    with pytest.raises(DataError, match="there must be TFRecord files"):
        adopt(tmp_path)
    folder = write_foreign(tmp_path / "set")
    adopt(folder)
    text = (folder / "manifest.json").read_text().replace('"adopted": {', '"table": {')
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="got a set of make_records"):
        adopt(folder)


def test_pixel_statistics_are_those_of_the_images(tmp_path):
    rng = np.random.default_rng(4)
    manifest, _ = adopt(write_foreign(tmp_path / "set", image=toy_jpeg([1, 0, 0], 32, rng)))
    assert manifest.size == 32
    np.testing.assert_allclose(manifest.pixel_mean, [176 / 255, 80 / 255, 80 / 255], atol=0.02)


CODES = """
rename = { anatom_site_general = "anatom_site_general_challenge" }
roles = { diagnosis = "category" }
[codes]
sex = ["female", "male"]
anatom_site_general_challenge = [
    "torso", "head/neck", "upper extremity", "lower extremity", "palms/soles",
]
diagnosis = { 0 = "unknown", 2 = "melanoma" }
"""


def test_real_records_in_kaggles_layout_agree_with_the_official_table(tmp_path, real_data):
    folder = tmp_path / "set"
    shutil.copytree(real_data / "foreign_tfrecords", folder)
    folder.chmod(0o755)
    (tmp_path / "codes.toml").write_text(CODES)
    manifest, _ = adopt(folder, read_adopt_spec(str(tmp_path / "codes.toml")))
    assert (manifest.size, manifest.examples_in(["test"])) == (512, 100)
    rows = read_rows(str(folder)).set_index("id")
    table = pd.read_csv(real_data / "siim2020" / "train.csv").set_index("image_name")
    for name in ("sex", "age_approx", "anatom_site_general_challenge", "diagnosis", "target"):
        assert rows[name].tolist() == table.loc[rows.index, name].tolist(), name
