"""What `make_records` prints at its end."""

import dataclasses

from beam_jobs.make_records import main as make_records
from dataset_factory import record_flags, write_dataset
from pipeline.dataset.plan_report import describe_sizes
from pipeline.records.manifest import read_manifest
from records_factory import write_toy_records


def lines_of(text):
    return [line.split() for line in text.splitlines()]


def test_each_part_is_told_with_classes_groups_shards_and_the_megabytes_of_each_size(tmp_path):
    small = write_toy_records(tmp_path / "32", rows=40)
    large = write_toy_records(tmp_path / "48", rows=40, size_px=48)
    lines = lines_of(describe_sizes("out", [small, large], failed=0))
    assert " ".join(lines[0]) == "part images groups benign malignant shards MB at 32 MB at 48"
    first = small.parts[0]
    assert lines[1][:6] == [
        "fold0", "10", "5", str(first.classes["benign"]), str(first.classes["malignant"]), "2",
    ]  # fmt: skip
    assert lines[5][0] == "all"
    for column in range(1, 6):  # every figure of the last line is the sum of those above it
        assert int(lines[5][column]) == sum(int(line[column]) for line in lines[1:5])
    for column, manifest in ((6, small), (7, large)):
        megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
        assert abs(float(lines[5][column]) - megabytes) <= 0.05
    assert "out/32, out/48" in describe_sizes("out", [small, large], failed=0)


def test_failures_and_enlarged_images_are_told(tmp_path):
    manifest = dataclasses.replace(
        write_toy_records(tmp_path), failures={"missing": 2, "truncated": 1}, enlarged=7
    )
    text = describe_sizes("out", [manifest], failed=3)
    assert "3 rows failed (2 missing, 1 truncated): out/failed.csv" in text
    assert "warning: 7 images smaller than 32 px: enlarged" in text


def test_a_source_that_is_too_small_for_a_size_is_counted_there(tmp_path, capsys):
    write_dataset(tmp_path)  # sides of 70 to 159 px
    assert make_records(record_flags(tmp_path, tmp_path / "out", sizes="64,160")) == 0
    counts = [read_manifest(f"{tmp_path}/out/{size}").enlarged for size in (64, 160)]
    assert counts == [0, 24]
    assert "warning: 24 images smaller than 160 px" in capsys.readouterr().out
