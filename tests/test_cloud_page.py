"""docs/cloud.md: every command of ours on it is one that its parser takes."""

import importlib
import re
import shlex

import pytest

from conftest import ROOT

TEXT = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
NAMES = {"PROJECT": "some-project", "REGION": "us-central1", "BUCKET": "some-bucket"}


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
