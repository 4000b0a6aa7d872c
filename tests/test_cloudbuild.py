"""cloudbuild.yaml is a `Build` of the API, and all that it names is there."""

import json
import re
import subprocess

import pytest
import yaml
from google.cloud.devtools.cloudbuild_v1 import Build, BuildOptions

from beam_jobs.template import JOBS
from conftest import ROOT

TEXT = (ROOT / "cloudbuild.yaml").read_text(encoding="utf-8")
# https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
BUILT_IN = {"PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION", "COMMIT_SHA", "SHORT_SHA"}


@pytest.fixture(scope="module")
def build():
    return Build.from_json(json.dumps(yaml.safe_load(TEXT)))  # refuses unknown keys


def filled(text, build):
    """With the substitutions in, as the service puts them: a `$$` stays a `$`."""
    known = {**build.substitutions, "PROJECT_ID": "some-project", "BUILD_ID": "some-build"}
    for _ in range(2):  # dynamic: a substitution may hold others
        text = re.sub(r"(?<!\$)\$\{(\w+)\}", lambda match: known[match[1]], text)
    return text.replace("$$", "$")


def test_every_substitution_is_known_and_used(build):
    plain = re.sub(r"\$\$\S", "", TEXT)
    used = set(re.findall(r"\$\{?(\w+)", plain))
    assert used - BUILT_IN == set(build.substitutions)
    assert all(name.startswith("_") for name in build.substitutions)
    assert build.options.dynamic_substitutions


def test_every_file_that_is_named_is_there(build):
    named = set(re.findall(r"(?:docker|\.ci)/[\w./$]+", TEXT)) - {"docker/templates/$$job.json"}
    assert {"docker/beam.Dockerfile", "docker/trainer.Dockerfile", ".ci/run"} <= named
    for name in named:
        assert (ROOT / name).exists(), name
    [templates] = [step.args[1] for step in build.steps if step.id == "templates"]
    [jobs] = re.findall(r"for job in (.*);", templates)
    assert tuple(jobs.split()) == JOBS
    for job in JOBS:
        assert (ROOT / "docker" / "templates" / f"{job}.json").exists()


def test_what_is_pushed_was_built_and_checked(build):
    by_id = {step.id: step for step in build.steps}
    built = {
        filled(step.args[step.args.index("-t") + 1], build)
        for step in build.steps if "-t" in step.args
    }  # fmt: skip
    [push] = re.findall(r"for image in (.*);", filled(by_id["push"].args[1], build))
    names = [word.strip('"') for word in push.split()]
    where = "us-central1-docker.pkg.dev/some-project/foldstream"
    assert {f"{where}/{name}:some-build" for name in names} == built
    assert set(by_id["push"].wait_for) == {"check", "build-beam", "build-trainer"}
    assert list(by_id["templates"].wait_for) == ["push"]
    assert "beam.digest" in by_id["templates"].args[1]  # not a tag, which may be moved


def test_steps_wait_for_steps_before_them(build):
    seen = {"-"}
    for step in build.steps:
        assert set(step.wait_for) <= seen, step.id
        seen.add(step.id)


@pytest.mark.parametrize("place", ["push", "templates"])
def test_scripts_are_bash_once_the_substitutions_are_in(build, place):
    [script] = [step.args[1] for step in build.steps if step.id == place]
    script = filled(script, build)
    assert "${" not in script
    process = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert process.returncode == 0, process.stderr


def test_the_images_of_steps_are_named(build):
    for step in build.steps:
        assert step.name, step.id
    assert build.options.machine_type == BuildOptions.MachineType.E2_HIGHCPU_8
    assert build.timeout.total_seconds() == 3600
