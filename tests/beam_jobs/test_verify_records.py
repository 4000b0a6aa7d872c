"""`verify_records`: every kind of damage is found, and named by place."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from beam_jobs.make_records import main as make_records
from beam_jobs.verify_records import main
from dataset_factory import record_flags, write_dataset
from pipeline.records.check import Lookup
from pipeline.records.manifest import read_manifest, read_rows
from pipeline.records.tfrecord import read_records
from pipeline.records.verify import verify_shard


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(folder)
    assert make_records(record_flags(folder, folder / "out", name="toy")) == 0
    return folder / "out" / "64"


@pytest.fixture
def records(made, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(made, tmp_path / "64")


def shard(records, index=0):
    return sorted(records.glob("toy-*"))[index]


def verdicts(text):
    return {line.split()[1]: line.split()[0] for line in text.splitlines() if line[:1] in "oF"}


def test_what_was_just_made_has_no_fault(made, capsys):
    assert main([str(made)]) == 0
    out = capsys.readouterr().out
    assert set(verdicts(out).values()) == {"ok"}
    assert "24 examples in 8 shards: no fault" in out


def test_a_flipped_bit_is_found_with_file_record_and_offset(records, capsys):
    data = bytearray(shard(records).read_bytes())
    data[len(data) // 2] ^= 4
    shard(records).write_bytes(data)
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)["framing"] == verdicts(out)["files"] == "FAULT"
    line = next(line for line in out.splitlines() if "checksum of the data" in line)
    assert shard(records).name in line
    assert "record 1 at byte " in line or "record 2 at byte " in line


def test_a_shard_that_is_cut_off_or_gone_is_found(records, capsys):
    shard(records).write_bytes(shard(records).read_bytes()[:-5])
    gone = shard(records, 1).name
    shard(records, 1).unlink()
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert "the file is cut off" in out
    assert f"{gone}: there is no such file" in out


def test_two_shards_that_changed_places_are_found(records, capsys):
    first, last = shard(records, 0), shard(records, -1)
    content = first.read_bytes(), last.read_bytes()
    first.write_bytes(content[1])
    last.write_bytes(content[0])
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)["rows"] == "FAULT"
    assert "part must be the shard's" in out


def test_a_manifest_that_counts_otherwise_is_found(records, capsys):
    manifest = json.loads((records / "manifest.json").read_text())
    manifest["parts"][0]["groups"] += 1
    (records / "manifest.json").write_text(json.dumps(manifest))
    assert main([str(records)]) == 1
    assert verdicts(capsys.readouterr().out)["counts"] == "FAULT"


def test_a_size_that_is_not_the_images_is_found(records, capsys):
    text = (records / "manifest.json").read_text().replace('"size": 64', '"size": 65')
    (records / "manifest.json").write_text(text)
    assert main([str(records)]) == 1
    assert "size must be 65×65 px, got 64×64" in capsys.readouterr().out


def test_records_without_a_manifest_are_not_complete(records, capsys):
    (records / "manifest.json").unlink()
    assert main([str(records)]) == 1
    assert "manifest.json: no such file: the records are missing or not complete" in (
        capsys.readouterr().err
    )


def table(made, records):
    """The CSV that `made` was made of, as lines, and the path of a copy to change."""
    path = records.parent / "table.csv"
    shutil.copy(made.parents[1] / "train.csv", path)
    return path.read_text().splitlines(), path


def table_faults(records, path, capsys, *flags):
    code = main([str(records), "--csv", str(path), *flags])
    out = capsys.readouterr().out
    assert code == (verdicts(out)["table"] == "FAULT")
    return [line.strip() for line in out.partition(" table ")[2].splitlines()[1:-1]]


def test_records_agree_with_the_table_they_were_made_of(made, records, capsys):
    _, path = table(made, records)
    assert table_faults(records, path, capsys) == []


def test_a_value_or_label_that_the_table_has_otherwise_is_named_by_place(made, records, capsys):
    lines, path = table(made, records)
    for place, (old, new) in {
        3: (",head/neck,", ",arm,"),
        6: (",n5,", ",m5,"),
        9: (",0", ",1"),
    }.items():
        head, found, tail = lines[place].rpartition(old)
        assert found, lines[place]
        lines[place] = head + new + tail
    path.write_text("\n".join(lines) + "\n")
    faults = table_faults(records, path, capsys)
    assert len(faults) == 3
    found = sorted(fault.rpartition(": ")[2] for fault in faults)
    assert found == [f"{name} is another one than in the table" for name in
                     ("note", "site", "target")]  # fmt: skip
    assert all(".tfrecord-" in fault and " at byte " in fault for fault in faults)


def test_an_example_that_only_one_of_the_two_has_is_found(made, records, capsys):
    lines, path = table(made, records)
    path.write_text("\n".join([*lines[:-1], lines[-1].replace("IMG_", "NEW_")]) + "\n")
    faults = table_faults(records, path, capsys)
    assert len(faults) == 2
    assert any("the table has no 'IMG_" in fault for fault in faults)
    assert any("1 examples of the table are in no record" in f and "'NEW_" in f for f in faults)


def test_rows_that_failed_are_not_missed(tmp_path, capsys):
    path = write_dataset(tmp_path)
    broken = sorted((tmp_path / "jpeg").iterdir())[2]
    broken.unlink()
    assert make_records([*record_flags(tmp_path, tmp_path / "out"), "--max_failures", "1"]) == 0
    assert table_faults(tmp_path / "out" / "64", path, capsys) == []
    last = path.read_text().splitlines()[-1]
    path.write_text(f"{path.read_text()}NEW_{last}\n")
    (fault,) = table_faults(tmp_path / "out" / "64", path, capsys)
    assert "2 examples of the table are in no record, but 1 failed" in fault
    assert "'NEW_" in fault


def test_rows_that_were_dropped_are_not_missed(tmp_path, capsys):
    path = write_dataset(tmp_path)
    lines = path.read_text().splitlines()
    (tmp_path / "drop.csv").write_text("again\n" + lines[4].partition(",")[0] + "\n")
    flags = record_flags(tmp_path, tmp_path / "out", drop=f"{tmp_path}/drop.csv:again")
    assert make_records(flags) == 0
    assert table_faults(tmp_path / "out" / "64", path, capsys) == []


def test_the_table_is_read_by_several_workers(made, records, capsys):
    _, path = table(made, records)
    assert table_faults(records, path, capsys, "--workers", "2") == []


def test_each_of_200_flipped_bits_is_found_with_its_record_and_offset(made, records):
    """One bit at a time, anywhere: in lengths, checksums and data."""
    rng = np.random.default_rng(200)
    manifest = read_manifest(str(records))
    rows = Lookup(read_rows(str(records)).set_index("row"))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            shard = manifest.shards[rng.integers(len(manifest.shards))]
            data = bytearray((made / shard.file).read_bytes())
            with (made / shard.file).open("rb") as file:
                starts = [offset for offset, _ in read_records(file, shard.file)]
            place, bit = int(rng.integers(len(data))), int(rng.integers(8))
            data[place] ^= 1 << bit
            (records / shard.file).write_bytes(data)
            report = verify_shard(str(records), manifest, shard, rows, None, pool)
            number = int(np.searchsorted(starts, place, side="right")) - 1
            told = [str(fault) for fault in report.faults if fault.check == "framing"]
            assert len(told) == 1, (place, bit)
            assert f"record {number} at byte {starts[number]}: " in told[0]
            assert shard.file in told[0]
            (records / shard.file).write_bytes((made / shard.file).read_bytes())


def test_two_damaged_records_of_one_shard_are_both_found(records, capsys):
    data = bytearray(shard(records).read_bytes())
    data[40] ^= 1  # in the data of the first record
    data[-10] ^= 1  # in the data of the last
    shard(records).write_bytes(data)
    assert main([str(records)]) == 1
    out = capsys.readouterr().out
    assert out.count("checksum of the data does not agree") == 2
    assert "record 0 at byte 0: " in out


def test_adopted_records_verify_like_our_own(records, capsys):
    (records / "manifest.json").unlink()
    (records / "rows.parquet").unlink()
    codes = records.parent / "codes.toml"
    codes.write_text('parts = { "*-fold0.*" = "fold0", "*-fold1.*" = "fold1", "*" = "test" }\n')
    before = {path.name: path.read_bytes() for path in records.glob("toy-*")}
    assert main([str(records), "--adopt", "--codes", str(codes)]) == 0
    out = capsys.readouterr().out
    assert "patient_id is the group" in out
    assert "24 examples in 8 shards: no fault" in out
    assert {path.name: path.read_bytes() for path in records.glob("toy-*")} == before


def test_codes_without_adopt_are_a_fault_of_the_command_line(records, capsys):
    assert main([str(records), "--codes", "codes.toml"]) == 2
    assert "--codes must be given with --adopt" in capsys.readouterr().err


def test_one_image_under_two_patients_in_two_folds_is_found(tmp_path, capsys):
    write_dataset(tmp_path)
    paths = sorted((tmp_path / "jpeg").iterdir())
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    assert make_records(record_flags(tmp_path, tmp_path / "out")) == 0
    assert main([str(tmp_path / "out" / "64")]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)["twins"] == "FAULT"
    assert "rows are of the same bytes as a row of another part" in out
