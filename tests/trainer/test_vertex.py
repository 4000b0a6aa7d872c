"""`python -m trainer.vertex`: the job is what the API takes, and says what was asked for."""

import functools
import json
import re
from pathlib import Path

import pytest
from google.api_core.exceptions import Forbidden, ServiceUnavailable, TooManyRequests
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import (
    AcceleratorType,
    CustomJob,
    Scheduling,
)

import trainer.vertex.__main__ as vertex
from pipeline import storage
from trainer.task import build_parser as task_parser
from trainer.vertex.machines import MACHINES
from vertex_jobs import FLAGS, IMAGE, dry_run


@pytest.fixture
def printed(capsys):
    """The dry run of some flags as the API's own type, which refuses what it doesn't know."""
    return functools.partial(dry_run, capsys)


def test_a_training_is_one_tpu_that_trains_the_checked_recipe(printed):
    job = printed(CustomJob)
    [pool] = job.job_spec.worker_pool_specs
    assert pool.replica_count == 1
    assert pool.machine_spec.machine_type == "cloud-tpu"
    assert pool.machine_spec.accelerator_type == AcceleratorType.TPU_V3
    assert pool.machine_spec.accelerator_count == 8
    assert pool.container_spec.image_uri == IMAGE
    module, *words = pool.container_spec.args
    assert module == "trainer.task"
    flags = task_parser().parse(words)
    assert (flags.records, flags.tpu) == ("gs://some-bucket/out/256", "local")
    assert flags.config == "gs://some-bucket/runs/b0/config.toml"
    assert flags.run is None  # Vertex AI says it, by AIP_MODEL_DIR
    assert job.job_spec.base_output_directory.output_uri_prefix == "gs://some-bucket/runs/b0"
    assert {env.name: env.value for env in pool.container_spec.env} == {"TF_USE_LEGACY_KERAS": "1"}


def test_by_default_a_job_begins_again_where_a_machine_failed(printed):
    scheduling = printed(CustomJob).job_spec.scheduling
    assert scheduling.restart_job_on_worker_restart
    assert scheduling.strategy == Scheduling.Strategy.STANDARD
    assert scheduling.timeout.total_seconds() == 24 * 3600


def test_spot_machines_accounts_and_the_rest_are_said_when_asked_for(printed):
    spec = printed(
        CustomJob, "--spot", "--no_restart", "--timeout_hours", "1.5", "--env", "A=b=c",
        "--service_account", "trainer@some-project.iam.gserviceaccount.com",
        "--network", "projects/1/global/networks/mine",
        "--tensorboard", "projects/1/locations/us-central1/tensorboards/2",
        "--folds", "0,1", "--allow_failures",
    ).job_spec  # fmt: skip
    assert spec.scheduling.strategy == Scheduling.Strategy.SPOT
    assert not spec.scheduling.restart_job_on_worker_restart
    assert spec.scheduling.timeout.total_seconds() == 5400
    assert spec.service_account.startswith("trainer@")
    assert spec.network.endswith("mine")
    assert spec.tensorboard.endswith("2")
    [pool] = spec.worker_pool_specs
    assert {env.name: env.value for env in pool.container_spec.env}["A"] == "b=c"
    flags = task_parser().parse(list(pool.container_spec.args)[1:])
    assert (flags.folds, flags.allow_failures) == ("0,1", True)


def test_a_package_is_installed_into_another_image(printed):
    job = printed(CustomJob, "--package", "gs://some-bucket/foldstream-0.1.0.tar.gz")
    [pool] = job.job_spec.worker_pool_specs
    package = pool.python_package_spec
    assert not pool.container_spec.image_uri
    assert package.python_module == "trainer.task"
    assert list(package.package_uris) == ["gs://some-bucket/foldstream-0.1.0.tar.gz"]
    assert package.args[0] == "--records"


@pytest.mark.parametrize("tpu_type", MACHINES)
def test_every_tpu_is_a_machine_of_the_api_on_one_host(printed, tpu_type):
    [pool] = printed(CustomJob, "--tpu_type", tpu_type).job_spec.worker_pool_specs
    machine, chips = pool.machine_spec, int(tpu_type.rpartition("-")[2])
    if tpu_type.startswith("v5e"):
        assert machine.machine_type == f"ct5lp-hightpu-{chips}t"
        across, down = map(int, machine.tpu_topology.split("x"))
        assert across * down == chips
    else:
        assert machine.accelerator_count == chips
    assert MACHINES[tpu_type].replicas == chips  # a core a replica on v2 and v3, a chip on v5e


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tpu_type", "v5e-16"), "--tpu_type must be one of v2-8.*did you mean 'v5e-1'"),
        (("--tpu_type", "v6e-8"), "--tpu_type must be one of v2-8.*JAX and PyTorch alone"),
        (("--records", "out/256"), "--records must be gs://BUCKET/…, got 'out/256'"),
        (("--run", "runs/b0"), "--run must be gs://BUCKET/…, got 'runs/b0'"),
        (("--package", "dist/x.tar.gz"), "--package must be gs://"),
        (("--run", "gs://b/runs"), "--run: a bucket's name must have 3 to 63 characters.*got 'b'"),
        (("--records", f"gs://{64 * 'a'}/r"), "--records: a bucket's name must have 3 to 63"),
        (("--run", "gs://Patients/runs"), "a-z, 0-9.*got 'Patients'"),
        (("--run", "gs://some-bucket/my runs"), "without blanks, got 'gs://some-bucket/my runs'"),
        (("--image", "us-docker.pkg.dev/p/f/trainer-tpu:latest"),
         "--image must name its digest, IMAGE@sha256:.*got '.*:latest'.*; gcloud artifacts docker"),
        (("--image", "trainer-tpu"), "--image must name its digest"),
        (("--image", "trainer-tpu@sha256:12"), "--image must name its digest"),
        (("--name", 129 * "n"), "--name must have 128 characters at most, got 129"),
        (("--timeout_hours", "0"), r"--timeout_hours must be in \(0, 168\], got 0"),
        (("--env", "A"), "--env must be NAME=VALUE, got 'A'"),
        (("--set", "train.batch_size=36"), "a multiple of the 8 replicas, got 36"),
        (("--set", "train.epoch=3"), "did you mean 'epochs'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_paid_for(flags, message, capsys):
    assert vertex.main([*FLAGS, *flags, "--dry_run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vertex: error: ")
    assert re.search(message, error), error


def raising(error):
    def call(*_, **__):
        raise error

    return call


NAME = "projects/7/locations/us-central1/customJobs/123"


@pytest.fixture
def bucket(monkeypatch):
    """What is on gs://, by path: `storage` for the launcher and for the recipes that it reads."""
    files = {}

    def write_new(path, text):
        return files.setdefault(path, text) is text

    def read_text(path):
        return files[path] if path.startswith("gs://") else Path(path).read_text()

    monkeypatch.setattr(storage, "write_new", write_new)
    monkeypatch.setattr(storage, "read_text", read_text)
    monkeypatch.setattr(storage, "remove", files.pop)
    return files


@pytest.fixture
def submitted(monkeypatch):
    """The jobs that were submitted, and to whom."""
    asked = []
    monkeypatch.setattr(vertex, "submit", lambda job, **about: asked.append((job, about)) or NAME)
    return asked


def test_a_bucket_may_be_a_domain_longer_than_63_characters(printed):
    bucket = f"{60 * 'a'}.example.com"
    printed(CustomJob, "--run", f"gs://{bucket}/runs/b0")


def test_a_submitted_job_finds_its_recipe_and_says_where_to_look(bucket, submitted, capsys):
    assert vertex.main([*FLAGS, "--set", "train.epochs=3"]) == 0
    [(path, recipe)] = bucket.items()
    [(job, about)] = submitted
    [pool] = job["job_spec"]["worker_pool_specs"]
    assert path in pool["container_spec"]["args"]
    assert "epochs = 3" in recipe
    assert about == {"is_study": False, "project": "some-project", "region": "us-central1"}
    assert "custom-jobs/locations/us-central1/123?project=some-project" in capsys.readouterr().out


def test_the_same_recipe_begins_a_job_that_goes_on(bucket, submitted):
    assert vertex.main(list(FLAGS)) == 0
    before = dict(bucket)
    assert vertex.main([*FLAGS, "--spot"]) == 0  # what is the machine's is not the recipe's
    assert bucket == before
    assert len(submitted) == 2


def test_another_recipe_never_takes_the_place_of_a_running_jobs(bucket, submitted, capsys):
    assert vertex.main(list(FLAGS)) == 0
    before = dict(bucket)
    assert vertex.main([*FLAGS, "--set", "train.epochs=3"]) == 2
    assert (bucket, len(submitted)) == (before, 1)
    error = capsys.readouterr().err
    assert error.startswith("vertex: error: gs://some-bucket/runs/b0/config.toml: the recipe of a")
    assert re.search(r"got another: train.epochs \(there \d+, asked 3\); give another --run", error)


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch):
    """A client asks for none, and reaches nobody."""
    anonymous = AnonymousCredentials()
    monkeypatch.setattr("google.auth.default", lambda **_: (anonymous, "some-project"))


STAYS = (
    "; the recipe stays in gs://some-bucket/runs/b0/config.toml; to send another, give another "
    "--run, or remove that file if no job has trained by it\n"
)


def test_a_refusal_of_the_service_is_one_line_that_says_what_becomes_of_the_recipe(
    bucket, monkeypatch, capsys
):
    monkeypatch.setattr(JobServiceClient, "create_custom_job", raising(Forbidden("no quota")))
    assert vertex.main(list(FLAGS)) == 1
    assert capsys.readouterr().err == f"vertex: error: Vertex AI: 403 no quota{STAYS}"


def test_a_refusal_leaves_the_recipe_to_who_found_the_same_meanwhile(bucket, monkeypatch):
    def another_begins_and_this_one_is_refused(*_, **__):
        monkeypatch.setattr(vertex, "submit", lambda *_, **__: NAME)
        assert vertex.main(list(FLAGS)) == 0
        raise TooManyRequests("quota")

    monkeypatch.setattr(
        JobServiceClient, "create_custom_job", another_begins_and_this_one_is_refused
    )
    assert vertex.main(list(FLAGS)) == 1
    assert [*bucket] == ["gs://some-bucket/runs/b0/config.toml"]


def test_a_recipe_whose_job_may_have_begun_stays(bucket, monkeypatch, capsys):
    monkeypatch.setattr(JobServiceClient, "create_custom_job", raising(ServiceUnavailable("busy")))
    assert vertex.main(list(FLAGS)) == 1
    assert len(bucket) == 1
    error = capsys.readouterr().err
    assert "503 busy; whether the job has begun, the console tells" in error
    assert error.endswith(STAYS)


def test_the_printed_job_names_its_enums(capsys):
    assert vertex.main([*FLAGS, "--dry_run"]) == 0
    pools = json.loads(capsys.readouterr().out)["jobSpec"]["workerPoolSpecs"]
    assert pools[0]["machineSpec"]["acceleratorType"] == "TPU_V3"
