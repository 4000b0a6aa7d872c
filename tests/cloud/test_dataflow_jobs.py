"""The jobs with every path on `gs://`, submitted whole to a runner in Dataflow's place."""

import time

import pytest

from beam_jobs import find_duplicates, make_records, score_images, verify_records
from beam_jobs.engine import Finish
from dataflow_stand_in import FLAGS, StandIn, as_on_dataflow
from dataset_factory import record_flags, write_dataset
from pipeline import storage
from pipeline.storage import gcs_lease
from scoring_stand_in import score_flags, score_without_models

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


def test_a_scoring_that_outlasts_its_lease_ends_well_and_leaves_its_output_alone(
    tmp_path, bucket, monkeypatch
):
    monkeypatch.setattr(gcs_lease, "RENEW_S", 0.3)
    process = Finish.process

    def dawdle(self, count):
        process(self, count)
        time.sleep(1)  # the launcher renews its lease meanwhile

    monkeypatch.setattr(Finish, "process", dawdle)
    score_without_models(monkeypatch)
    csv = write_dataset(tmp_path)
    flags = (str(csv), f"{tmp_path}/jpeg")
    assert score_images.main(score_flags(*flags, f"{tmp_path}/scores.csv")) == 0
    as_on_dataflow(monkeypatch, f"{bucket}/tmp")
    assert score_images.main(score_flags(*flags, f"{bucket}/scores.csv")) == 0
    wanted = (tmp_path / "scores.csv").read_bytes()
    assert storage.read_bytes(f"{bucket}/scores.csv") == wanted
    assert storage.list_names(bucket) == ["scores.csv", "scores.failed.csv"]
