"""docs/cloud.md: every command of ours on it is one that its parser takes."""

import importlib
import re
import shlex
import subprocess

import pytest
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob

import trainer.vertex.__main__ as vertex
from conftest import ROOT

TEXT = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
NAMES = {
    "PROJECT": "some-project",
    "REGION": "us-central1",
    "BUCKET": "some-bucket",
    "TRAINER": "trainer@some-project.iam.gserviceaccount.com",
    "TPU": "us-central1-docker.pkg.dev/some-project/foldstream/trainer-tpu@sha256:" + 64 * "0",
}


def commands():
    """Module and flags of each `python -m …`, with the page's names filled in."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.sub(r"\$(\w+)", lambda m: NAMES.get(m[1], "some-value"), line))
            if "python" in words:
                place = words.index("python")
                assert words[place + 1] == "-m", line
                found.append((words[place + 2], words[place + 3 :]))
    return found


@pytest.mark.parametrize(("module", "words"), commands(), ids=lambda value: str(value)[:40])
def test_a_command_of_the_page_is_one_that_its_parser_takes(module, words):
    try:
        entry = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError:
        entry = importlib.import_module(module)
    flags = entry.build_parser().parse(words)
    for name in ("spec", "config", "study"):
        path = getattr(flags, name, None)
        assert path is None or (ROOT / path).exists(), path


TO_VERTEX = [words for module, words in commands() if module == "trainer.vertex"]


def test_the_page_sends_jobs_and_a_study_to_vertex():
    assert len(TO_VERTEX) > 2
    assert any("--study" in words for words in TO_VERTEX)


@pytest.mark.parametrize("words", TO_VERTEX, ids=lambda words: words[words.index("--run") + 1])
def test_a_job_of_the_page_is_one_that_would_be_sent(words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert vertex.main([*words, "--dry_run"]) == 0
    kind = HyperparameterTuningJob if "--study" in words else CustomJob
    assert kind.from_json(capsys.readouterr().out).display_name


ON = {
    "projects": "project",
    "storage buckets": "bucket",
    "artifacts repositories": "repository",
    "iam service-accounts": "accounts",
}
GCLOUD = """set -eu
gcloud() { if [ "$1" = config ]; then echo me@some.where; else echo "$@" >> "$TOLD"; fi }
"""


def roles_of_the_table():
    """(account, role, on what) of each line that gives roles."""
    given, account = set(), ""
    for who, roles, on in re.findall(r"^\| ([^|]*)\| (`roles/[^|]*)\| ([^|]*) \|", TEXT, re.M):
        account = who.strip(" `") or account
        given |= {(account, role, on) for role in re.findall(r"roles/[\w.]+", roles)}
    return given


def test_the_commands_give_the_roles_of_the_table_and_no_more(tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    names, roles = blocks[0], next(block for block in blocks if "add-iam-policy" in block)
    told = tmp_path / "told"
    command = ["bash", "-c", GCLOUD + names + roles]
    subprocess.run(command, env={"TOLD": str(told)}, check=True, timeout=60)
    given, acted_as = set(), set()
    for line in told.read_text().splitlines():
        if "add-iam-policy-binding" not in line:
            continue
        what, _, words = line.partition(" add-iam-policy-binding ")
        [member] = re.findall(r"--member=\w+:([^@]+)@", words)
        [role] = re.findall(r"--role=(\S+)", words)
        given.add(("you" if member == "me" else member, role, ON[what]))
        if ON[what] == "accounts":
            acted_as.add(words.partition("@")[0])
    assert given == roles_of_the_table()
    made = set(re.findall(r"service-accounts create (\S+)", TEXT))
    assert acted_as == made == {account for account, _, _ in given} - {"you"}


def test_who_sends_a_build_may_do_all_that_gcloud_asks_for():
    """gcloud gets the bucket before it stages the source, counts on the project's quota, and tells
    an image's digest: none of it is in builds.editor or in objectAdmin.
    """
    assert "gcloud builds submit" in TEXT
    assert "--gcs-source-staging-dir gs://$BUCKET" in TEXT
    assert "gcloud artifacts docker images describe" in TEXT
    assert {
        ("you", "roles/storage.legacyBucketReader", "bucket"),
        ("you", "roles/serviceusage.serviceUsageConsumer", "project"),
        ("you", "roles/artifactregistry.reader", "repository"),
    } <= roles_of_the_table()


def test_the_page_has_every_stage():
    modules = {module for module, _ in commands()}
    assert {
        "beam_jobs.make_records", "beam_jobs.verify_records", "trainer.vertex",
        "trainer.ensemble", "trainer.report", "trainer.export",
    } <= modules  # fmt: skip


def test_links_lead_to_files_of_the_tree():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_the_arithmetic_of_the_costs_is_right():
    """Each figure of the table again, from the factors that the page shows."""
    records = 33_126 / 439 * 2 / 3600 * (0.056 + 4 * 0.003557) * 3
    machines = 32 * 8 / 60 * 0.056 + 128 * 8 / 60 * 0.003557
    training = 5 * 12 * 26_500 / 1_000 / 3600 * 8 * 1.20
    costs = dict(re.findall(r"^\| ([^|]+?) \| [^|]+ \| ([\d.]+)(?: a month)? \|$", TEXT, re.M))
    for stage, dollars in {
        "keep the originals": 35 * 0.020,
        "keep the records, 256 px": 33_126 * 27.4e-6 * 0.020,
        "make records: the work": records,
        "make records: the machines": machines,
        "make records: reads": 33_126 / 1_000 * 0.0004,
        "train B0, five folds, 12 epochs": training,
        "a study of 20 trials, two folds each": 20 * 2 / 5 * training,
    }.items():
        assert float(costs[stage]) == pytest.approx(dollars, abs=0.006, rel=0.01), stage
