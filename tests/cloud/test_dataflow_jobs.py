"""The jobs with every path on `gs://`, submitted whole to a runner in Dataflow's place."""

import pytest

from beam_jobs import find_duplicates, make_records, verify_records
from dataflow_stand_in import FLAGS, StandIn
from dataset_factory import record_flags, write_dataset
from pipeline import storage

pytestmark = pytest.mark.cloud


def test_jobs_on_a_bucket_write_what_they_write_here_and_leave_nothing_else(
    tmp_path, bucket, monkeypatch, capsys
):
    monkeypatch.setattr("beam_jobs.engine.DataflowRunner", StandIn)
    csv = write_dataset(tmp_path)
    for image in (tmp_path / "jpeg").iterdir():
        storage.write_bytes(f"{bucket}/jpeg/{image.name}", image.read_bytes())
    storage.write_bytes(f"{bucket}/train.csv", csv.read_bytes())
    assert make_records.main(record_flags(tmp_path, tmp_path / "out")) == 0
    where = (*FLAGS, f"--temp_location={bucket}/tmp")
    there = {"csv": f"{bucket}/train.csv", "images": f"{bucket}/jpeg"}
    assert make_records.main([*record_flags(tmp_path, f"{bucket}/out", **there), *where]) == 0
    records = f"{bucket}/out/64"
    assert verify_records.main([records, f"--csv={bucket}/train.csv", *where]) == 0
    twins = f"{bucket}/twins.csv"
    assert find_duplicates.main([f"{bucket}/jpeg", records, "--output", twins, *where]) == 0
    assert f"24 pairs: {twins}" in capsys.readouterr().out  # each image and its record
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "out" / "64").iterdir()}
    assert {name: storage.read_bytes(f"{records}/{name}") for name in wanted} == wanted
    assert storage.list_names(bucket) == ["jpeg", "out", "train.csv", "twins.csv"]
