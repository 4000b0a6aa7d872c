"""Dataflow, as far as it can be seen without it: flags, job graph, and the last step's outcome."""

import dataclasses
import json
import math

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs import find_duplicates, make_records, verify_records
from beam_jobs.duplicates_job import FindDuplicates
from beam_jobs.engine import Finish, Numbers
from beam_jobs.job import Outcome, outcome_from_json
from beam_jobs.records_job import MakeRecords
from beam_jobs.shards import ShardJob
from beam_jobs.verify_job import VerifyRecords
from dataflow_stand_in import FLAGS as SUBMITTED
from dataflow_stand_in import OFFLINE, Result, as_on_dataflow, engine_of, finish_twice, graph_bytes
from dataset_factory import record_flags, write_dataset
from pipeline.errors import DataError
from pipeline.images.render import RenderSpec
from pipeline.records.write import Sources
from pipeline.storage.backend import ABSENT, Version

FLAGS = (*SUBMITTED, "--temp_location=gs://some-bucket/tmp")


def jobs_of(rows: int) -> list:
    """Each job as it would be for so many rows, on a bucket."""
    shards = math.ceil(rows / 1024)
    work = ShardJob(
        output="gs://some-bucket/out",
        sources=Sources(images="gs://some-bucket/jpeg"),
        sizes=(256, 384),
        render=RenderSpec(),
        threads=16,
    )
    scratch = "gs://some-bucket/tmp/job"
    return [
        MakeRecords(
            work=work, shards=shards, rows=rows, what="images", max_failures=0.001,
            before=(ABSENT, Version("1700000000000000")),
        ),
        VerifyRecords(
            records="gs://some-bucket/out/256", scratch=scratch, threads=16, shards=shards,
            examples=rows, table_classes=("0", "1"),
        ),
        FindDuplicates(
            folders=("gs://some-bucket/jpeg",), scratch=scratch, threads=16, units=shards,
            images=rows, distance=7, output="gs://some-bucket/twins.csv",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(3), ids=["records", "verify", "duplicates"])
def test_the_job_graph_is_as_large_for_a_million_rows_as_for_a_thousand(place):
    small, large = (graph_bytes(jobs_of(rows)[place]) for rows in (1_000, 1_000_000))
    print(f"{jobs_of(1)[place].name}: {small:,} and {large:,} bytes")
    assert abs(large - small) <= 0.05 * small, (small, large)
    assert large < 200_000


def test_what_is_submitted_names_project_bucket_image_and_ends_with_the_last_step():
    result = engine_of(*FLAGS, *OFFLINE, "--machine_type=n2-standard-4").submit(jobs_of(1_000)[0])
    text = str(result.job.proto_pipeline)
    options = result.job.options.get_all_options()
    assert options["project"] == "some-project"
    assert options["machine_type"] == "n2-standard-4"
    assert options["number_of_worker_harness_threads"] == 1
    assert FLAGS[3].partition("=")[2] in text
    names = {t.unique_name for t in result.job.proto_pipeline.components.transforms.values()}
    assert {"write shards", "finish"} <= names, names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--project=p",), "--project must be given with --runner dataflow, got it without"),
        (("--dataflow_option=x",), "--dataflow_option must be given with --runner dataflow"),
        (("--no_wait",), "--no_wait must be given with --runner dataflow"),
        (("--workers=0",), "--workers must be 1 or more, got 0"),
        (FLAGS[:1], "--project must be given with --runner dataflow"),
        ((*FLAGS[:3], FLAGS[4]), "--setup_file or --sdk_container_image must be given"),
        ((*FLAGS, "--workers=3"), "say --max_num_workers"),
        ((*FLAGS, "--temp_location=tmp"), "--temp_location must be gs://.*got 'tmp'"),
        ((*FLAGS, "--job_name=Big_Job"), "--job_name must be lower-case.*got 'Big_Job'"),
        ((*FLAGS, "--dataflow_option=machine_tipe=x"), "did you mean 'machine_type'"),
    ],
)
def test_a_flag_that_is_missing_or_misplaced_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        engine_of(*words)


def test_a_local_path_that_workers_would_need_is_refused():
    with pytest.raises(ValueError, match=r"--output must be gs:// .* got 'out/'"):
        engine_of(*FLAGS, paths={"--images": "gs://some-bucket/jpeg", "--output": "out/"})


def test_two_jobs_of_one_name_have_folders_of_their_own():
    assert engine_of(*FLAGS).folder != engine_of(*FLAGS).folder
    mine, again = (engine_of(*FLAGS, "--job_name=mine").folder for _ in range(2))
    assert mine.startswith("gs://some-bucket/tmp/foldstream-jobs/mine-")
    assert mine != again


def test_a_templates_launcher_does_not_wait():
    assert engine_of(*FLAGS).waits
    assert not engine_of(*FLAGS, "--template_location=gs://some-bucket/job_object").waits


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize("tries", [1, 2])
def test_a_job_that_finishes_on_a_worker_leaves_and_says_what_one_here_does(
    tmp_path, monkeypatch, capsys, tries
):
    if tries == 2:
        finish_twice(monkeypatch)
    csv = write_dataset(tmp_path)
    table = f"--csv={csv}"
    runs = {}
    for name in ("aside", "afar"):
        output = tmp_path / name
        if name == "afar":
            as_on_dataflow(monkeypatch, tmp_path / "scratch")
        codes = (
            make_records.main(record_flags(tmp_path, output)),
            verify_records.main([str(output / "64"), table]),
            find_duplicates.main([f"{output}/64", "--output", f"{output}/twins.csv"]),
        )
        text, _ = capsys.readouterr()
        runs[name] = (codes, text.replace(name, "OUT"), contents(output))
    assert runs["afar"][0] == runs["aside"][0] == (0, 0, 0)
    assert runs["afar"][1] == runs["aside"][1]
    assert runs["afar"][2] == runs["aside"][2]
    assert not (tmp_path / "scratch").exists()  # nothing is left where the workers met


def test_ctrl_c_leaves_the_job_to_itself(tmp_path, monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Result, "wait_until_finish", interrupt)
    write_dataset(tmp_path)
    as_on_dataflow(monkeypatch, tmp_path / "scratch")
    assert make_records.main(record_flags(tmp_path, tmp_path / "out")) == 130
    error = capsys.readouterr().err
    assert "console.cloud.google.com/dataflow/jobs/us-central1/2026-11-30_some-id" in error
    assert f"how it ends will be in {tmp_path}/scratch/outcome.json" in error


def test_a_launcher_that_does_not_wait_leaves_what_the_job_needs(tmp_path, monkeypatch, capsys):
    write_dataset(tmp_path)
    as_on_dataflow(monkeypatch, tmp_path / "scratch", waits=False)
    assert make_records.main(record_flags(tmp_path, tmp_path / "out")) == 0
    assert "begun; how it ended will be in" in capsys.readouterr().out
    outcome = json.loads((tmp_path / "scratch" / "outcome.json").read_text())
    assert outcome["code"] == 0
    assert "preview: " in outcome["text"]


def test_what_the_user_must_mend_comes_back_as_an_error_and_not_as_a_stack(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Damaged:
        name: str = "some_job"

        def finish(self) -> Outcome:
            raise DataError("fold0: record 3 must be whole, got half of it")

    path = tmp_path / "outcome.json"
    Finish(Damaged(), str(path)).process(1)
    outcome = outcome_from_json(path.read_text())
    assert (outcome.code, outcome.text) == (1, "")
    assert outcome.complaint == "some_job: error: fold0: record 3 must be whole, got half of it"


def test_numbers_are_all_there_once():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        numbers = pipeline | Numbers(2000)
        assert_that(numbers, equal_to(list(range(2000))))
