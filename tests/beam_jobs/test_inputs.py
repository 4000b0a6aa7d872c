"""Every kind of dataset, from the command line to the stream: made, verified, opened, read."""

import csv
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.make_records import main as make_records
from beam_jobs.verify_records import main as verify_records
from dataset_factory import record_flags, write_dataset
from pipeline.records.example import ExampleCodec
from pipeline.records.manifest import read_manifest, read_rows
from pipeline.records.tfrecord import read_records

LENGTH = 40  # values a row


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder with `train.csv`, `jpeg/`, and a vector a row in every form."""
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder)
    frame = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(len(frame), LENGTH)).astype(np.float32)
    vectors[3, 7] = np.nan
    np.save(folder / "values.npy", vectors)
    cells = {f"w{n}": [str(x) if x == x else "" for x in vectors[:, n]] for n in range(LENGTH)}
    pd.concat([frame, pd.DataFrame(cells)], axis=1).to_csv(folder / "wide.csv", index=False)
    columns = {name: frame[name].to_list() for name in frame}
    pq.write_table(pa.table({**columns, "spectrum": vectors.tolist()}), folder / "list.parquet")
    return folder


def flags_of(folder, output, drop=(), **over):
    """`record_flags` without the flags named in `drop`."""
    words = record_flags(folder, output, **over)
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for flag, value in pairs if flag[2:] not in drop for word in (flag, value)]


def examples_of(folder):
    manifest = read_manifest(str(folder))
    codec = ExampleCodec(manifest.features)
    for shard in manifest.shards:
        with (folder / shard.file).open("rb") as file:
            for _, data in read_records(file, shard.file):
                yield codec.decode(data)


def is_without_fault(folder):
    return verify_records([str(folder)]) == 0


def streamed(folder, parts):
    """{row: {field: array}} as evaluation reads them."""
    from pipeline.stream.batches import evaluation_batches
    from pipeline.stream.records import open_records

    rows = {}
    batches = evaluation_batches(open_records(str(folder)), parts, batch_size=7)
    for inputs, targets, mask in batches.as_numpy_iterator():
        for place in np.flatnonzero(mask):
            row = int(inputs["row"][place])
            rows[row] = {name: field[place] for name, field in {**inputs, **targets}.items()}
    return rows


@pytest.mark.parametrize(
    ("csv_name", "values"),
    [
        ("train.csv", {"values_npy": "values.npy"}),
        ("wide.csv", {"values": f"w0:w{LENGTH - 1}"}),
        ("list.parquet", {"values": "spectrum"}),
    ],
    ids=["npy", "csv", "parquet"],
)
def test_a_vector_of_floats_goes_into_records_without_an_image(
    dataset, tmp_path, csv_name, values, capsys
):
    if "values_npy" in values:
        values = {"values_npy": str(dataset / "values.npy")}
    flags = flags_of(
        dataset, tmp_path, ("images", "image_path", "sizes"), csv=f"{dataset}/{csv_name}", **values
    )
    assert make_records(flags) == 0, capsys.readouterr().err
    assert is_without_fault(tmp_path / "values")
    wanted = np.load(dataset / "values.npy")
    names = pd.read_csv(dataset / "train.csv")["image_name"].tolist()
    examples = {example["image_name"]: example for example in examples_of(tmp_path / "values")}
    assert examples.keys() == set(names)
    for name, vector in zip(names, wanted, strict=True):
        np.testing.assert_array_equal(examples[name]["values"], vector)
        assert len(examples[name]["sha256"]) == 64
    assert not (tmp_path / "plan" / "values.npy").exists()
    manifest = read_manifest(str(tmp_path / "values"))
    assert manifest.size is None
    assert not {"image", "width", "height"} & {feature.name for feature in manifest.features}


def test_a_vector_may_stand_beside_the_image(dataset, tmp_path):
    flags = flags_of(dataset, tmp_path, values_npy=str(dataset / "values.npy"), sizes="64")
    assert make_records(flags) == 0
    assert is_without_fault(tmp_path / "64")
    by_name = dict(zip(pd.read_csv(dataset / "train.csv")["image_name"],
                       np.load(dataset / "values.npy"), strict=True))  # fmt: skip
    for example in examples_of(tmp_path / "64"):
        assert example["image"][:2] == b"\xff\xd8"
        np.testing.assert_array_equal(example["values"], by_name[example["image_name"]])


def test_vectors_are_the_same_bytes_with_any_workers(dataset, tmp_path):
    for output, workers in (("one", "1"), ("two", "2")):
        flags = flags_of(
            dataset, tmp_path / output, ("images", "image_path", "sizes"), workers=workers,
            csv=f"{dataset}/wide.csv", values=f"w0:w{LENGTH - 1}",
        )  # fmt: skip
        assert make_records(flags) == 0
    one, two = (sorted((tmp_path / name / "values").iterdir()) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_progress_counts_vectors_as_examples(dataset, tmp_path, capsys):
    drop, values = ("images", "image_path", "sizes"), str(dataset / "values.npy")
    assert make_records(flags_of(dataset, tmp_path, drop, values_npy=values)) == 0
    assert re.search(r"make_records: (\d+) of \1 examples, ", capsys.readouterr().err)


def test_a_vector_that_is_no_number_fails_its_row_only(dataset, tmp_path):
    lines = (dataset / "wide.csv").read_text().splitlines()
    cells = lines[5].split(",")
    cells[-4] = "n/a"
    lines[5] = ",".join(cells)
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    flags = flags_of(
        dataset, tmp_path / "out", ("images", "image_path", "sizes"), max_failures="0.5",
        csv=f"{tmp_path}/wide.csv", values=f"w0:w{LENGTH - 1}",
    )  # fmt: skip
    assert make_records(flags) == 0
    with (tmp_path / "out" / "failed.csv").open() as file:
        assert [(line["id"], line["reason"]) for line in csv.DictReader(file)] == [
            (cells[0], "not_numbers")
        ]
    assert is_without_fault(tmp_path / "out" / "values")


def test_the_stream_reads_vectors(dataset, tmp_path):
    flags = flags_of(dataset, tmp_path, ("images", "image_path", "sizes"),
                     values_npy=str(dataset / "values.npy"))  # fmt: skip
    assert make_records(flags) == 0
    rows = read_rows(str(tmp_path / "values")).set_index("id")["row"]
    read = streamed(tmp_path / "values", ["fold0", "fold1", "fold2", "fold3"])
    names = pd.read_csv(dataset / "train.csv")["image_name"]
    for name, vector in zip(names, np.load(dataset / "values.npy"), strict=True):
        np.testing.assert_array_equal(read[rows[name]]["values"], vector)


@pytest.fixture(scope="module")
def tree(dataset):
    """The images as `tree/PART/ill/CLASS/NAME.jpg`."""
    for place, path in enumerate(sorted((dataset / "jpeg").iterdir())):
        folder = (
            dataset / "tree" / ("train", "val")[place % 3 // 2] / ("well", "ill/badly")[place % 2]
        )
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{place // 2}.jpg")  # stems repeat
    (dataset / "tree" / "README.txt").write_text("not an image")
    return dataset / "tree"


def test_a_folder_tree_is_a_dataset(tree, tmp_path, capsys):
    flags = ["--from_folders", str(tree), "--parts", "train,val", "--sizes", "32"]
    assert make_records([*flags, "--output", str(tmp_path)]) == 0
    assert "1 files are no images by their suffix, or hidden" in capsys.readouterr().out
    assert is_without_fault(tmp_path / "32")
    manifest = read_manifest(str(tmp_path / "32"))
    assert (manifest.label.classes, manifest.part_names) == (
        ("ill/badly", "well"),
        ("train", "val"),
    )
    assert str(tree) not in manifest.to_json()
    for example in examples_of(tmp_path / "32"):
        part, *folders, _ = example["file"].split("/")
        assert (example["part"], manifest.label.classes[example["target"]]) == (
            part, "/".join(folders),
        )  # fmt: skip


def test_a_folder_tree_takes_no_table_and_no_images_root(tree, tmp_path, capsys):
    flags = ["--from_folders", str(tree), "--output", str(tmp_path)]
    for more, message in (
        (["--images", "x"], "--images must not be given with --from_folders"),
        (["--csv", "x.csv"], "table.csv must not be given for a folder tree"),
        (["--image_path", "{x}.jpg"], "images.path must not be given for a folder tree"),
    ):
        assert make_records([*flags, *more]) == 2
        assert message in capsys.readouterr().err


def test_images_need_their_root_and_vectors_alone_have_none(dataset, tmp_path, capsys):
    assert make_records(flags_of(dataset, tmp_path, ("images",))) == 2
    assert "--images must be given" in capsys.readouterr().err
    vectors = {"values_npy": str(dataset / "values.npy")}
    assert make_records(flags_of(dataset, tmp_path, ("image_path",), **vectors)) == 2
    assert "--images must not be given for values alone" in capsys.readouterr().err


def test_an_unlabelled_table_is_one_part_without_targets(dataset, tmp_path):
    assert make_records(flags_of(dataset, tmp_path, ("label",), sizes="32")) == 0
    assert is_without_fault(tmp_path / "32")
    manifest = read_manifest(str(tmp_path / "32"))
    assert (manifest.label.kind, manifest.part_names) == ("none", ("unlabelled",))
    assert {example["target"] for example in examples_of(tmp_path / "32")} == {-1}
    assert set(read_rows(str(tmp_path / "32"))["target"]) == {-1}


def test_tfds_opens_an_unlabelled_set_and_one_of_vectors(dataset, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    assert make_records(flags_of(dataset, tmp_path, ("label",), sizes="32")) == 0
    (split,) = tfds.builder_from_directory(str(tmp_path / "32")).as_dataset().values()
    assert {int(example["target"]) for example in split} == {-1}
    vectors = {"values_npy": str(dataset / "values.npy"), "folds": "2"}
    without = ("images", "image_path", "sizes")
    assert make_records(flags_of(dataset, tmp_path / "v", without, **vectors)) == 0
    opened = tfds.builder_from_directory(str(tmp_path / "v" / "values")).as_dataset(split="fold0")
    assert {example["values"].shape[0] for example in opened} == {LENGTH}


def test_multilabel_columns_reach_the_stream(dataset, tmp_path):
    lines = (dataset / "train.csv").read_text().splitlines()
    labels = [("1", "0"), ("0", "1"), ("0.25", ""), ("1", "1")]
    cells = [",".join(labels[place % 4]) for place in range(len(lines) - 1)]
    text = [f"{line},{more}" for line, more in zip(lines, ["nodule,mass", *cells], strict=True)]
    (tmp_path / "multi.csv").write_text("\n".join(text))
    flags = flags_of(dataset, tmp_path, csv=f"{tmp_path}/multi.csv", label="nodule,mass")
    assert make_records(flags) == 0
    assert is_without_fault(tmp_path / "64")
    manifest = read_manifest(str(tmp_path / "64"))
    assert (manifest.label.kind, manifest.label.classes) == ("multilabel", ("nodule", "mass"))
    names = [line.split(",")[0] for line in lines[1:]]
    wanted = {
        name: np.array([float(cell or -1) for cell in labels[place % 4]], np.float32)
        for place, name in enumerate(names)
    }
    rows = read_rows(str(tmp_path / "64")).set_index("row")["id"]
    read = streamed(tmp_path / "64", manifest.part_names)
    assert len(read) == len(names)
    for row, fields in read.items():
        np.testing.assert_array_equal(fields["target"], wanted[rows[row]])


def test_positive_changes_what_is_scored_and_not_what_is_stored(dataset, tmp_path):
    flags = flags_of(dataset, tmp_path / "a", label="site", categorical="sex", sizes="32")
    assert make_records(flags) == 0
    flags = flags_of(
        dataset, tmp_path / "b", label="site", categorical="sex", positive="torso", sizes="32"
    )
    assert make_records(flags) == 0
    plain, scored = (read_manifest(str(tmp_path / name / "32")) for name in "ab")
    assert (plain.label.positive, scored.label.positive) == ((), ("torso",))
    assert plain.label.classes == scored.label.classes == ("head/neck", "torso")
    targets = [
        {
            example["image_name"]: example["target"]
            for example in examples_of(tmp_path / name / "32")
        }
        for name in "ab"
    ]
    assert targets[0] == targets[1]
    assert {1, 0, -1} == set(targets[0].values())
    assert is_without_fault(tmp_path / "b" / "32")


def test_positive_text_becomes_1_of_a_binary_label(dataset, tmp_path):
    flags = flags_of(
        dataset,
        tmp_path,
        label="site",
        label_kind="binary",
        positive="torso",
        categorical="sex",
        sizes="32",
    )
    assert make_records(flags) == 0
    assert is_without_fault(tmp_path / "32")
    with (dataset / "train.csv").open() as file:
        sites = {line["image_name"]: line["site"] for line in csv.DictReader(file)}
    wanted = {"torso": 1, "head/neck": 0, "": -1}
    for example in examples_of(tmp_path / "32"):
        assert example["target"] == wanted[sites[example["image_name"]]]


def test_joined_groups_stay_in_one_fold_and_keep_their_names(dataset, tmp_path, capsys):
    frame = pd.read_csv(dataset / "train.csv")
    first = frame.groupby("patient_id")["image_name"].first()
    pairs = pd.DataFrame({"id_1": [first["P0"], first["P5"]], "id_2": [first["P5"], first["P3"]]})
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    flags = flags_of(dataset, tmp_path, join_groups=f"{tmp_path}/pairs.csv", sizes="32")
    assert make_records(flags) == 0
    assert "2 of 2 pairs" in capsys.readouterr().out
    assert is_without_fault(tmp_path / "32")
    rows = read_rows(str(tmp_path / "32"))
    assert set(rows["group"]) == set(frame["patient_id"])
    assert len(set(rows.loc[rows["group"].isin(["P0", "P3", "P5"]), "part"])) == 1


def test_derived_metadata_is_in_records_and_rows(dataset, tmp_path):
    flags = flags_of(dataset, tmp_path, derived="images_per_group", sizes="32")
    assert make_records(flags) == 0
    assert is_without_fault(tmp_path / "32")
    assert {example["images_per_group"] for example in examples_of(tmp_path / "32")} == {3.0}
    assert set(read_rows(str(tmp_path / "32"))["images_per_group"]) == {3.0}


@pytest.mark.slow
def test_vectors_take_no_more_memory_than_images_do(tmp_path):
    length, rng = 12_210, np.random.default_rng(0)
    with (tmp_path / "wide.csv").open("w") as file:
        file.write(f"id,target,{','.join(f'w{n}' for n in range(length))}\n")
        vectors = [",".join(f"{x:.6f}" for x in rng.normal(size=length)) for _ in range(40)]
        for row in range(4000):
            file.write(f"s{row},{row % 2},{vectors[row % 40]}\n")
    command = [sys.executable, "-m", "beam_jobs.make_records", "--csv", f"{tmp_path}/wide.csv"]
    command += ["--id", "id", "--label", "target", "--values", f"w0:w{length - 1}"]
    command += ["--output", f"{tmp_path}/out", "--workers", "2"]
    job = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
    peaks = [0]
    watcher = threading.Thread(target=_watch_memory, args=(job, peaks))
    watcher.start()
    assert job.wait() == 0
    watcher.join()
    assert 50e6 < peaks[0] < 1.2e9, f"{peaks[0] / 1e6:.0f} MB"
    assert read_manifest(f"{tmp_path}/out/values").examples_in(["fold0"]) == 800


def _watch_memory(job, peaks):
    """The most that a process and all its children hold together, in bytes, shared pages once."""
    while job.poll() is None:
        peaks[0] = max(peaks[0], sum(_memory_bytes(process) for process in _tree_of(job.pid)))
        time.sleep(0.05)


def _tree_of(process):
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in _read(task).split():
            yield from _tree_of(int(child))


def _memory_bytes(process):
    lines = _read(Path(f"/proc/{process}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _read(path):
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has just ended
        return ""
