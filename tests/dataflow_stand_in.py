"""Another runner in Dataflow's place, for tests of what is submitted to it."""

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

# Of a job that the stand-in takes; without --temp_location.
FLAGS = (
    "--runner=dataflow", "--project=some-project", "--region=us-central1",
    "--sdk_container_image=us-docker.pkg.dev/some-project/foldstream/beam@sha256:" + 64 * "0",
)  # fmt: skip


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
