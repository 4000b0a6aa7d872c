"""Scoring on Dataflow, with another runner in its place: its last step, and who may come after."""

import json

import pytest
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

from beam_jobs import score_job
from beam_jobs.engine import DataflowEngine, Finish
from beam_jobs.score_images import main
from beam_jobs.score_shards import SavedModels
from dataflow_stand_in import Result, StandIn, as_on_dataflow, finish_twice
from dataset_factory import write_dataset
from pipeline.errors import DataError
from scoring_stand_in import score_flags, score_without_models


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(24 images and their table, what a scoring on this machine wrote of them.)"""
    folder, here = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("here")
    write_dataset(folder)
    with pytest.MonkeyPatch.context() as patch:
        score_without_models(patch)
        assert main(flags_for(folder, here)) == 0
    return folder, contents(here)


def flags_for(folder, output, *more):
    return score_flags(f"{folder}/train.csv", f"{folder}/jpeg", f"{output}/s.csv", *more)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path, monkeypatch):
    score_without_models(monkeypatch)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def leave(made, out, monkeypatch, is_over=True):
    """A launcher that does not wait, and a job that has come to its end or has not yet begun."""
    as_on_dataflow(monkeypatch, out.parent / "scratch", waits=False)
    with monkeypatch.context() as patch:
        if not is_over:
            patch.setattr(StandIn, "run_pipeline", lambda *_: Result())
        assert main(flags_for(made[0], out)) == 0


def refuse_to_score(monkeypatch):
    def run_inference(*_):
        raise AssertionError("nothing is left to score")

    monkeypatch.setattr(SavedModels, "run_inference", run_inference)


def test_a_last_step_that_is_tried_again_writes_the_same(made, out, monkeypatch):
    finish_twice(monkeypatch)
    as_on_dataflow(monkeypatch, out.parent / "scratch")
    assert main(flags_for(made[0], out)) == 0
    assert contents(out) == made[1]


def test_the_last_step_leaves_the_launchers_lock_alone(made, out, monkeypatch):
    process, locks = Finish.process, []

    def look(self, count):
        process(self, count)
        locks.append((out / "s.csv.shards" / "scoring.lock").exists())

    monkeypatch.setattr(Finish, "process", look)
    as_on_dataflow(monkeypatch, out.parent / "scratch")
    assert main(flags_for(made[0], out)) == 0
    assert locks == [True]


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["again", "overwrite"])
def test_who_comes_while_a_job_goes_on_without_its_launcher_is_told_so(
    made, out, monkeypatch, capsys, more
):
    leave(made, out, monkeypatch, is_over=False)
    before = contents(out)
    assert main(flags_for(made[0], out, *more)) == 2
    error = capsys.readouterr().err
    assert "no Dataflow job must be at work there, got one that has not said how it" in error
    assert f"{out.parent}/scratch/outcome.json" in error
    assert "its folder under --temp_location was removed), remove" in error
    assert f"remove {out}/s.csv.shards/dataflow.txt and give the same command again" in error
    assert contents(out) == before
    (out / "s.csv.shards" / "dataflow.txt").unlink()
    as_on_dataflow(monkeypatch, out.parent / "scratch")
    assert main(flags_for(made[0], out, *more)) == 0
    assert contents(out) == made[1]


def test_the_same_command_after_a_job_that_was_left_cleans_up_and_begins_no_other(
    made, out, monkeypatch, capsys
):
    leave(made, out, monkeypatch)
    outcome = json.loads((out.parent / "scratch" / "outcome.json").read_text())
    assert contents(out).keys() > made[1].keys()
    capsys.readouterr()
    refuse_to_score(monkeypatch)
    refuse_to_submit(monkeypatch)
    assert main(flags_for(made[0], out)) == 0
    assert capsys.readouterr().out.endswith(f"{outcome['text']}\n")
    assert contents(out) == made[1]


def test_another_command_after_a_job_that_was_left_begins_afresh(made, out, monkeypatch):
    leave(made, out, monkeypatch)
    as_on_dataflow(monkeypatch, out.parent / "scratch2")
    assert main(flags_for(made[0], out, "--rows_per_shard", "7")) == 0
    assert contents(out) == made[1]


def test_a_job_that_failed_before_its_launchers_eyes_keeps_nobody_out(made, out, monkeypatch):
    def fail(*_):
        raise DataflowRuntimeException("Dataflow pipeline failed. State: FAILED", None)

    as_on_dataflow(monkeypatch, out.parent / "scratch")
    with monkeypatch.context() as patch:
        patch.setattr(Result, "wait_until_finish", fail)
        patch.setattr(Finish, "process", lambda *_: None)
        assert main(flags_for(made[0], out)) == 1
    assert not (out / "s.csv").exists()
    refuse_to_score(monkeypatch)  # all is there but the output
    assert main(flags_for(made[0], out)) == 0
    assert contents(out) == made[1]


def stop(*_):
    raise KeyboardInterrupt


def refuse_to_finish(patch):
    def refuse(*_):
        raise DataError("the scores are no numbers")

    patch.setattr(score_job, "write_output", refuse)


def refuse_to_submit(monkeypatch):
    monkeypatch.setattr(DataflowEngine, "submit", lambda *_: pytest.fail("another job"))


def test_after_a_last_step_that_found_the_data_at_fault_the_same_command_begins_no_job(
    made, out, monkeypatch
):
    as_on_dataflow(monkeypatch, out.parent / "scratch")
    with monkeypatch.context() as patch:
        refuse_to_finish(patch)
        assert main(flags_for(made[0], out)) == 1
    assert not (out / "s.csv").exists()
    refuse_to_submit(monkeypatch)
    assert main(flags_for(made[0], out)) == 0
    assert contents(out) == made[1]


def test_the_same_command_says_what_a_last_step_found_that_nobody_saw_and_begins_no_job(
    made, out, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        refuse_to_finish(patch)
        leave(made, out, monkeypatch)
        refuse_to_submit(monkeypatch)
        assert not (out / "s.csv").exists()
        for _ in range(2):
            capsys.readouterr()
            assert main(flags_for(made[0], out)) == 1
            error = capsys.readouterr().err.splitlines()
            complaint = "score_images: error: the scores are no numbers"
            assert error == [f"the job before ended by exit code 1: {complaint}", complaint]
    assert main(flags_for(made[0], out)) == 0
    assert contents(out) == made[1]


def test_a_complaint_that_nobody_saw_is_told_before_another_job_begins(
    made, out, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        refuse_to_finish(patch)
        leave(made, out, monkeypatch)
    (out / "s.csv.shards" / "00001.json").unlink()
    as_on_dataflow(monkeypatch, out.parent / "scratch2")
    assert main(flags_for(made[0], out)) == 0
    assert "score_images: error: the scores are no numbers" in capsys.readouterr().err
    assert contents(out) == made[1]


def test_a_launcher_that_is_stopped_while_it_cleans_up_leaves_that_to_the_next(
    made, out, monkeypatch
):
    leave(made, out, monkeypatch)
    refuse_to_score(monkeypatch)
    refuse_to_submit(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(score_job, "write_output", stop)
        with pytest.raises(KeyboardInterrupt):
            main(flags_for(made[0], out))
    assert main(flags_for(made[0], out)) == 0
    assert contents(out) == made[1]


def test_a_job_that_begins_where_another_was_left_is_the_one_that_keeps_others_out(
    made, out, monkeypatch
):
    leave(made, out, monkeypatch)
    (out / "s.csv.shards" / "00001.json").unlink()
    monkeypatch.setattr(DataflowEngine, "submit", stop)
    with pytest.raises(KeyboardInterrupt):
        main(flags_for(made[0], out))
    assert not (out / "s.csv.shards" / "dataflow.txt").exists()


def test_one_image_and_one_row_are_told_as_such(tmp_path, monkeypatch, capsys):
    score_without_models(monkeypatch)
    csv = write_dataset(tmp_path, rows=2)
    next((tmp_path / "jpeg").iterdir()).unlink()
    assert main(flags_for(tmp_path, tmp_path)) == 3
    told = capsys.readouterr()
    assert "\n1 image scored: " in told.out
    assert "\n1 row failed (1 missing): " in told.out
    csv.write_text("".join(csv.read_text().splitlines(keepends=True)[:2]))
    for image in (tmp_path / "jpeg").iterdir():
        image.unlink()
    assert main(flags_for(tmp_path, tmp_path)) == 3
    told = capsys.readouterr()
    assert told.out.startswith("1 image, 1 model\n")
    assert "\n0 images scored: " in told.out
    assert "score_images: 1 of 1 row failed, more than" in told.err
