"""The Dockerfiles: what they copy is there, what they install is pinned and can be had.

No image is built here: a parser reads them, by the rules of hadolint that concern them.
"""

import json
import re
import shlex
import subprocess
import sys

import pytest
from dockerfile_parse import DockerfileParser

from beam_jobs import template
from conftest import ROOT

FILES = ("beam.Dockerfile", "trainer.Dockerfile")
DEVICES = ("tpu", "gpu", "cpu")


def instructions(name, **arguments):
    """(instruction, value) of a Dockerfile, with its ARGs and the given ones filled in."""
    with (ROOT / "docker" / name).open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    known, found = {}, []
    for line in structure:
        value = line["value"]
        if line["instruction"] == "ARG":
            key, _, default = value.partition("=")
            known.setdefault(key, arguments.get(key, default))
        value = re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], value)
        found.append((line["instruction"], value))
    return found


def values(name, instruction, **arguments):
    return [value for kind, value in instructions(name, **arguments) if kind == instruction]


def pip_commands():
    cases = [("beam.Dockerfile", {"EXTRAS": extras}) for extras in ("", "[cpu]")]
    cases += [("trainer.Dockerfile", {"DEVICE": device}) for device in DEVICES]
    return [
        pytest.param(shlex.split(run), id=f"{name}-{''.join(arguments.values())}-{place}")
        for name, arguments in cases
        for place, run in enumerate(values(name, "RUN", **arguments))
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_image_is_named_with_a_version(name):
    stages = set()
    for value in values(name, "FROM"):
        image, _, stage = value.partition(" AS ")
        _, colon, tag = image.rpartition(":")
        assert colon, f"{image}: no tag"
        assert tag != "latest", image
        stages.add(stage)
    for value in values(name, "COPY"):
        copied = re.match(r"--from=(\S+)", value)
        assert copied is None or copied[1] in stages, value


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_in_the_tree_and_not_ignored(name):
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for value in values(name, "COPY"):
        if value.startswith("--from="):
            continue
        *sources, _ = value.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in kept, f"{source}: .dockerignore leaves it out"


@pytest.mark.parametrize("name", FILES)
def test_instructions_are_of_the_kind_that_hadolint_lets_pass(name):
    kinds = [kind for kind, _ in instructions(name)]
    assert "ADD" not in kinds
    assert kinds.count("ENTRYPOINT") == 1
    for value in values(name, "ENTRYPOINT") + values(name, "CMD"):
        assert isinstance(json.loads(value), list), value  # not by way of a shell
    for value in values(name, "WORKDIR"):
        assert value.startswith("/")


@pytest.mark.parametrize("command", pip_commands())
def test_installs_are_pinned_and_leave_no_cache(command):
    assert command[:3] == ["pip", "install", "--no-cache-dir"]
    if "--no-deps" in command:
        assert all("==" in word for word in command[4:]), command
    else:
        assert command[3:5] == ["-c", "constraints.txt"]


def test_versions_are_those_of_the_constraints_and_the_makefile():
    locked = (ROOT / "constraints.txt").read_text()
    [beam] = [value for value in values("beam.Dockerfile", "FROM") if "beam_python" in value]
    assert f"apache-beam=={beam.partition(':')[2].partition(' ')[0]}\n" in locked
    [alone] = [line for line in values("trainer.Dockerfile", "RUN") if "--no-deps" in line]
    makefile = (ROOT / "Makefile").read_text()
    assert f"WITHOUT_DEPENDENCIES := {alone.partition('--no-deps ')[2]}\n" in makefile


def test_the_workers_image_has_no_trainer_and_starts_the_template():
    copied = " ".join(values("beam.Dockerfile", "COPY"))
    assert "trainer" not in copied
    assert values("beam.Dockerfile", "ENV") == ["FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py"]
    launch = (ROOT / "docker" / "launch.py").read_text()
    assert "from beam_jobs.template import main" in launch
    assert callable(template.main)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The pip of a new environment, in which nothing is installed yet."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return str(folder / "bin" / "pip")


@pytest.mark.slow
@pytest.mark.parametrize("command", pip_commands())
def test_installs_can_be_had_in_a_fresh_environment(command, fresh, tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    process = subprocess.run(
        [fresh, *command[1:], "--dry-run", "--quiet"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
