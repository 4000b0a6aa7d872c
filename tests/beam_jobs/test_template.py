"""Flex Templates: their metadata is the parsers', and a launcher's parameters become flags."""

import json
import re

import pytest
from google.cloud.dataflow_v1beta3 import TemplateMetadata

from beam_jobs.engine import choose_engine
from beam_jobs.template import JOBS, job_flags, main, metadata, parser_of
from conftest import ROOT

NEEDED = {
    "make_records": {"job", "output", "sdk_container_image"},
    "verify_records": {"job", "records", "sdk_container_image"},
    "find_duplicates": {"job", "dataset", "output", "sdk_container_image"},
    "score_images": {"job", "images", "output", "sdk_container_image"},
}
# What the launcher adds to the parameters, as its log shows them.
LAUNCHER = (
    "--runner=DataflowRunner", "--project=some-project", "--region=us-central1",
    "--temp_location=gs://some-bucket/tmp", "--staging_location=gs://some-bucket/staging",
    "--job_name=records-1", "--template_location=gs://some-bucket/staging/job_object",
    "--max_num_workers=10", "--experiments=use_runner_v2",
    "--sdk_container_image=us-docker.pkg.dev/some-project/foldstream/beam@sha256:" + 64 * "a",
)  # fmt: skip


def parameters(job):
    path = ROOT / "docker" / "templates" / f"{job}.json"
    found = TemplateMetadata.from_json(path.read_text(encoding="utf-8"))  # refuses unknown keys
    assert found.name
    assert found.description
    return {parameter.name: parameter for parameter in found.parameters}


@pytest.mark.parametrize("job", JOBS)
def test_the_metadata_on_disk_is_what_the_parser_says(job):
    text = (ROOT / "docker" / "templates" / f"{job}.json").read_text(encoding="utf-8")
    assert json.loads(text) == metadata(job), (
        "a flag has changed: python -m beam_jobs.template --write docker/templates"
    )


@pytest.mark.parametrize("job", JOBS)
def test_every_flag_but_those_of_the_machine_is_a_parameter_with_a_regex(job):
    known = set(parser_of(job)._option_string_actions)
    ours = {name[2:] for name in known if name.startswith("--")}
    asked = parameters(job)
    assert set(asked) - {"job", "records", "dataset", "other"} <= ours
    some = {"find_duplicates": ("distance",), "score_images": ("models", "ensemble", "csv")}
    for name in some.get(job, ("csv", "group", "folds", "label")):
        assert name in asked, name
    assert not {"runner", "workers", "project", "help"} & set(asked)
    assert {name for name, about in asked.items() if not about.is_optional} == NEEDED[job]
    for name, about in asked.items():
        [pattern] = about.regexes
        assert (pattern[0], pattern[-1]) == ("^", "$"), (name, pattern)
        assert about.help_text, name
        assert not re.fullmatch(pattern, ""), name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("output", "gs://some-bucket/out", "/home/me/out"),
        ("csv", "gs://some-bucket/a b/train.csv", "s3://some-bucket/train.csv"),
        ("sizes", "256,384", "256,"),
        ("folds", "5", "five"),
        ("max_failures", "0.001", "1%"),
        ("max_failures", "1e-3", "."),
        ("plan_only", "true", "yes"),
        ("label_kind", "multilabel", "binary2"),
        ("categorical", "sex,site", "sex,,site"),
        ("image_path", "{image_name}.jpg", "two\nlines"),
        ("sdk_container_image", "docker.pkg.dev/p/r/beam@sha256:" + 64 * "0", "p/r/beam:latest"),
    ],
)
def test_a_regex_takes_what_the_parser_takes_and_refuses_what_it_would(name, good, bad):
    [pattern] = parameters("make_records")[name].regexes
    assert re.fullmatch(pattern, good)
    assert not re.fullmatch(pattern, bad)


def test_a_launchers_parameters_become_the_jobs_command_line():
    job, words = job_flags(
        [*LAUNCHER, "--job=verify_records", "--records=gs://some-bucket/out/256", "--adopt=true",
         "--codes="]
    )  # fmt: skip
    assert job == "verify_records"
    flags = parser_of(job).parse(words)
    assert (flags.records, flags.adopt, flags.codes) == ("gs://some-bucket/out/256", True, None)
    engine = choose_engine(flags, job, {"records": flags.records})
    assert not engine.waits  # it writes the job and leaves
    assert engine.folder.startswith("gs://some-bucket/tmp/foldstream-jobs/records-1-")
    assert "--experiments=use_runner_v2" in engine.options


def test_a_list_of_paths_is_parted_by_commas():
    job, words = job_flags(
        ["--job=score_images", "--images=gs://b/i", "--output=gs://b/o.csv",
         "--models=gs://some-bucket/a,gs://some-bucket/b"]
    )  # fmt: skip
    assert parser_of(job).parse(words).models == ["gs://some-bucket/a", "gs://some-bucket/b"]
    [pattern] = parameters(job)["models"].regexes
    assert re.fullmatch(pattern, "gs://some-bucket/a,gs://some-bucket/b")
    assert not re.fullmatch(pattern, "gs://some-bucket/a,runs/b")


def test_a_switch_that_is_false_is_left_out():
    _, words = job_flags(["--job=make_records", "--output=gs://b/o", "--plan_only=false"])
    assert not parser_of("make_records").parse(words).plan_only


@pytest.mark.parametrize("words", [[], ["--job=bake"], ["--job=make_records", "output"]])
def test_a_parameter_that_is_none_is_refused_in_one_line(words, capsys):
    assert main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
