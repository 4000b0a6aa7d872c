"""`make_records` as a user types it: what it writes, prints and refuses."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import simplejpeg

from beam_jobs.make_records import main
from dataset_factory import record_flags, write_dataset
from pipeline.records.example import ExampleCodec
from pipeline.records.manifest import read_manifest, read_rows
from pipeline.records.tfrecord import read_records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset with two sizes of records made of it: (its folder, the output)."""
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder)
    assert main(record_flags(folder, folder / "out", sizes="64,32")) == 0
    return folder, folder / "out"


def read_examples(folder):
    manifest = read_manifest(str(folder))
    codec = ExampleCodec(manifest.features)
    for shard in manifest.shards:
        with (folder / shard.file).open("rb") as file:
            for _, data in read_records(file, shard.file):
                yield shard, codec.decode(data)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_row_of_the_csv_is_in_one_record_with_its_values(made):
    folder, output = made
    with (folder / "train.csv").open() as file:
        wanted = {line["image_name"]: line for line in csv.DictReader(file)}
    examples = {values["image_name"]: values for _, values in read_examples(output / "64")}
    assert examples.keys() == wanted.keys()
    for name, line in wanted.items():
        values = examples[name]
        assert values["patient_id"] == line["patient_id"]
        assert (values["sex"], values["site"], values["note"]) == (
            line["sex"], line["site"], line["note"],
        )  # fmt: skip
        np.testing.assert_equal(values["age_approx"], float(line["age_approx"] or "nan"))
        assert values["target"] == int(line["target"])
        source = (folder / "jpeg" / f"{name}.jpg").read_bytes()
        assert values["sha256"] == hashlib.sha256(source).hexdigest()
        height, width, _, _ = simplejpeg.decode_jpeg_header(source)
        assert (values["width"], values["height"]) == (width, height)


@pytest.mark.parametrize("size", [32, 64])
def test_each_size_has_images_of_that_size(made, size):
    for _, values in read_examples(made[1] / str(size)):
        assert simplejpeg.decode_jpeg_header(values["image"])[:2] == (size, size)


def test_the_same_row_is_the_same_example_in_every_size(made):
    by_size = [
        {values["row"]: values["image_name"] for _, values in read_examples(made[1] / size)}
        for size in ("32", "64")
    ]
    assert by_size[0] == by_size[1]
    assert sorted(by_size[0].items()) == [
        (row, name) for row, name in enumerate(sorted(by_size[0].values()))
    ]


def test_no_patient_is_in_two_folds(made):
    folds = {}
    for shard, values in read_examples(made[1] / "64"):
        assert values["part"] == shard.part == f"fold{values['fold']}"
        folds.setdefault(values["patient_id"], set()).add(values["fold"])
    assert {len(fold) for fold in folds.values()} == {1}


def test_the_manifest_counts_what_is_there(made):
    output = made[1]
    manifest = read_manifest(str(output / "64"))
    assert sum(part.examples for part in manifest.parts) == 24
    assert [sum(part.classes.values()) for part in manifest.parts] == [
        part.examples for part in manifest.parts
    ]
    for shard in manifest.shards:
        data = (output / "64" / shard.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    pixels = np.stack([simplejpeg.decode_jpeg(v["image"]) for _, v in read_examples(output / "64")])
    np.testing.assert_allclose(manifest.pixel_mean, pixels.mean((0, 1, 2)) / 255, atol=2e-3)
    np.testing.assert_allclose(manifest.pixel_std, pixels.std((0, 1, 2)) / 255, atol=5e-3)


def test_the_row_table_is_in_order_of_row_with_the_metadata(made):
    rows = read_rows(str(made[1] / "64"))
    assert rows["row"].tolist() == list(range(24))
    assert rows["id"].is_monotonic_increasing
    assert {"group", "part", "fold", "target", "sex", "site", "age_approx"} <= set(rows.columns)


def test_a_second_run_gives_the_same_bytes_with_any_workers(made, tmp_path):
    folder, output = made
    assert main([*record_flags(folder, tmp_path / "out"), "--workers", "2"]) == 0
    assert digests(tmp_path / "out" / "64") == digests(output / "64")


def test_an_image_that_does_not_decode_is_left_out_and_listed(made, tmp_path, capsys):
    shutil.copytree(made[0] / "jpeg", tmp_path / "jpeg")
    shutil.copy(made[0] / "train.csv", tmp_path)
    names = sorted(path.stem for path in (tmp_path / "jpeg").iterdir())
    broken = tmp_path / "jpeg" / f"{names[3]}.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    (tmp_path / "jpeg" / f"{names[5]}.jpg").unlink()
    (tmp_path / "jpeg" / f"{names[7]}.jpg").write_text("<html>not found</html>")
    flags = record_flags(tmp_path, tmp_path / "out", max_failures="0.2")
    assert main(flags) == 0
    with (tmp_path / "out" / "failed.csv").open() as file:
        failed = {line["id"]: line["reason"] for line in csv.DictReader(file)}
    assert failed == {names[3]: "truncated", names[5]: "missing", names[7]: "not_an_image"}
    manifest = read_manifest(str(tmp_path / "out" / "64"))
    assert manifest.failures == {"missing": 1, "not_an_image": 1, "truncated": 1}
    assert sum(part.examples for part in manifest.parts) == 21
    assert {v["image_name"] for _, v in read_examples(tmp_path / "out" / "64")} == (
        set(names) - set(failed)
    )
    assert len(read_rows(str(tmp_path / "out" / "64"))) == 21
    assert "3 rows failed (1 missing, 1 not_an_image, 1 truncated)" in capsys.readouterr().out


def test_records_of_no_image_at_all_are_none_until_the_images_are_there(made, tmp_path, capsys):
    (tmp_path / "jpeg").mkdir()
    shutil.copy(made[0] / "train.csv", tmp_path)
    flags = record_flags(tmp_path, tmp_path / "out", max_failures="1")
    assert main(flags) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "a row or more must make a record, got 24 missing of 24; see failed.csv" in line
    assert not (tmp_path / "out" / "64" / "manifest.json").exists()
    assert len((tmp_path / "out" / "failed.csv").read_text().splitlines()) == 25
    shutil.copytree(made[0] / "jpeg", tmp_path / "jpeg", dirs_exist_ok=True)
    assert main(flags) == 0
    assert digests(tmp_path / "out" / "64") == digests(made[1] / "64")


def test_plan_only_prints_the_folds_and_reads_no_image(made, tmp_path, capsys):
    flags = record_flags(made[0], tmp_path / "out", images=str(tmp_path / "none"))
    assert main([*flags, "--plan_only"]) == 0
    assert "fold3" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out" / "plan").iterdir()) == [
        "plan.json", "plan.parquet",
    ]  # fmt: skip


def test_no_enlarge_leaves_a_row_out_of_the_sizes_it_is_too_small_for(made, tmp_path):
    flags = [*record_flags(made[0], tmp_path / "both", sizes="64,100"), "--no_enlarge"]
    assert main([*flags, "--max_failures", "1"]) == 0
    with (tmp_path / "both" / "failed.csv").open() as file:
        failed = {line["id"]: (line["reason"], line["sizes"]) for line in csv.DictReader(file)}
    assert 0 < len(failed) < 24
    assert set(failed.values()) == {("too_small", "100")}
    examples = [values["image_name"] for _, values in read_examples(tmp_path / "both" / "64")]
    assert len(examples) == 24
    alone = [*record_flags(made[0], tmp_path / "alone", sizes="100"), "--no_enlarge"]
    assert main([*alone, "--max_failures", "1"]) == 0
    assert digests(tmp_path / "alone" / "100") == digests(tmp_path / "both" / "100")


def test_folds_may_be_looked_at_without_any_image(made, tmp_path, capsys):
    flags = record_flags(made[0], tmp_path / "out")
    place = flags.index("--images")
    del flags[place : place + 2]
    assert main([*flags, "--plan_only"]) == 0
    assert main(flags) == 2
    assert "--images must be given" in capsys.readouterr().err


def test_folds_may_be_looked_at_again_and_again_until_a_size_is_begun(made, tmp_path, capsys):
    flags = record_flags(made[0], tmp_path / "out")
    for folds in ("3", "2", "4"):
        assert main([*flags, "--folds", folds, "--plan_only"]) == 0
    assert main(flags) == 0
    assert main([*flags, "--folds", "3", "--plan_only"]) == 1
    assert "got another: folds.count (there 4, asked 3)" in capsys.readouterr().err


def test_a_further_size_is_added_under_the_same_plan(made, tmp_path):
    folder, output = made
    assert main(record_flags(folder, tmp_path / "out")) == 0
    before = (tmp_path / "out" / "plan" / "plan.json").read_bytes()
    assert main(record_flags(folder, tmp_path / "out", sizes="32")) == 0
    assert (tmp_path / "out" / "plan" / "plan.json").read_bytes() == before
    assert digests(tmp_path / "out" / "32") == digests(output / "32")


def test_another_plan_in_the_same_output_is_refused(made, capsys):
    folder, output = made
    assert main(record_flags(folder, output, seed="7")) == 1
    assert "got another: folds.seed (there 42, asked 7); write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("over", "code", "message"),
    [
        ({"csv": "none.csv"}, 2, "none.csv: no such file"),
        ({"group": "patient"}, 1, "no column 'patient' (named by table.group); did you mean"),
        ({"fit": "squash"}, 2, "fit must be one of"),
        ({"quality": "0"}, 2, "quality must be in"),
        ({"workers": "-1"}, 2, "--workers must be 1 or more, got -1"),
        (
            {"output": "s3://bucket/out"},
            2,
            "path must be a local one or gs://",
        ),
        ({"rows_per_shard": "0"}, 2, "--rows_per_shard must be 1 or more, got 0"),
        ({"folds": "9"}, 1, "got 8 groups for 9 parts"),
        ({"sizes": "0"}, 2, "--sizes must be in 1-4096 px, got (0,)"),
    ],
)
def test_a_fault_of_the_users_is_one_line_and_a_code(made, tmp_path, capsys, over, code, message):
    assert main(record_flags(made[0], **{"output": tmp_path / "out", **over})) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "64" / "manifest.json").exists()


def test_the_spec_may_be_toml_with_flags_over_it(made, tmp_path):
    (tmp_path / "toy.toml").write_text(
        'name = "toy"\n[table]\ncsv = "train.csv"\nid = "image_name"\ngroup = "patient_id"\n'
        '[label]\ncolumn = "target"\n[folds]\ncount = 3\n'
    )
    flags = ["--spec", f"{tmp_path}/toy.toml", "--csv", f"{made[0]}/train.csv", "--folds", "2"]
    flags += ["--images", f"{made[0]}/jpeg", "--output", f"{tmp_path}/out", "--sizes", "32"]
    assert main(flags) == 0
    manifest = read_manifest(f"{tmp_path}/out/32")
    assert (manifest.name, manifest.part_names) == ("toy", ("fold0", "fold1"))


def test_the_manifest_names_no_folder_of_the_machine(made):
    text = (made[1] / "64" / "manifest.json").read_text()
    assert str(made[0]) not in text
    assert json.loads(text)["spec"]["table"]["csv"] == "train.csv"
