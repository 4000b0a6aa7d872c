"""Another runner in Dataflow's place, for tests of what is submitted to it."""

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.engine import DataflowEngine, Finish, choose_engine
from beam_jobs.run_flags import add_run_flags
from pipeline import storage
from pipeline.command_line import Parser

# Of a job that the stand-in takes; without --temp_location.
FLAGS = (
    "--runner=dataflow", "--project=some-project", "--region=us-central1",
    "--sdk_container_image=us-docker.pkg.dev/some-project/foldstream/beam@sha256:" + 64 * "0",
)  # fmt: skip

OFFLINE = ("--dataflow_option=dry_run=True", "--dataflow_option=no_auth")


def engine_of(*words: str, paths=None) -> DataflowEngine:
    """What the flags of a job say of where it runs."""
    parser = Parser("beam_jobs.job", None)
    add_run_flags(parser)
    return choose_engine(parser.parse(words), "some_job", paths or {})


def graph_bytes(job) -> int:
    """The size of what would be sent to Dataflow."""
    engine = engine_of(*FLAGS, *OFFLINE, "--temp_location=gs://some-bucket/tmp")
    return len(engine.submit(job).job.proto_pipeline.SerializeToString())


def as_on_dataflow(monkeypatch, folder, waits=True) -> None:
    """Jobs are submitted whole, last step included, to a runner that is not Dataflow."""
    engine = DataflowEngine(
        options=(), folder=str(folder), region="us-central1", project="some-project", waits=waits
    )
    monkeypatch.setattr("beam_jobs.engine.DataflowRunner", StandIn)
    for module in ("records_job", "verify_job", "duplicates_job", "score_job"):
        monkeypatch.setattr(f"beam_jobs.{module}.choose_engine", lambda *_: engine)


def finish_twice(monkeypatch) -> None:
    """The last step is tried again each time, as if its worker had died before it could say so."""
    process = Finish.process

    def twice(self, count):
        process(self, count)
        storage.remove(self._path)
        process(self, count)

    monkeypatch.setattr(Finish, "process", twice)


class Result:
    """Of a job that is over."""

    def job_id(self) -> str:
        return "2026-11-30_some-id"

    def wait_until_finish(self) -> None:
        pass


class StandIn(FnApiRunner):
    """Runs the whole of what is submitted, the last step as well, with none of the options."""

    def run_pipeline(self, pipeline, options) -> Result:
        super().run_pipeline(pipeline, PipelineOptions([]))
        return Result()
