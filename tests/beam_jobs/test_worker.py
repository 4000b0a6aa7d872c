"""A worker's process: DoFns arrive pickled and find only what setup.py's base brings."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from apache_beam.internal import pickler
from apache_beam.runners.portability.stager import Stager
from packaging.requirements import Requirement

from beam_jobs import make_records
from beam_jobs.duplicates_job import DrawThumbnails, FindDuplicates
from beam_jobs.engine import Finish
from beam_jobs.records_job import MakeRecords
from beam_jobs.shards import ShardJob, WriteShard
from beam_jobs.verify_job import VerifyRecords, VerifyShard
from conftest import ROOT
from dataset_factory import record_flags, write_dataset
from pipeline.duplicates.source import open_dataset, save_dataset
from pipeline.images.render import RenderSpec
from pipeline.records.done import claim_size
from pipeline.records.write import Sources
from pipeline.storage.backend import ABSENT

NOT_A_WORKERS = {"trainer", "benchmarks", "tests", "conftest"}


def required() -> set[str]:
    """The distributions that `pip install foldstream` brings, without an extra."""
    found: set[tuple[str, str]] = set()
    waiting = [("foldstream", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                dependency = _plain(requirement.name)
                waiting += [(dependency, further) for further in ("", *requirement.extras)]
    return {name for name, _ in found}


def blocked_modules() -> list[str]:
    """Every importable name that no required distribution has a part in."""
    mine = required()
    owners = importlib.metadata.packages_distributions()
    strange = {
        module for module, owner in owners.items() if not {_plain(name) for name in owner} & mine
    }
    assert {"tensorflow", "keras", "pytest"} <= strange
    assert not {"apache_beam", "numpy", "cv2", "google"} & strange
    return sorted(strange | NOT_A_WORKERS)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_worker(folder: Path, jobs) -> dict:
    """The jobs in a process that sees our two packages, copied, and not this tree."""
    for package in ("pipeline", "beam_jobs"):
        shutil.copytree(ROOT / package, folder / "site" / package)
    shutil.copy(Path(__file__).with_name("clean_worker.py"), folder / "site")
    pickled = [(pickler.dumps(dofn).decode(), elements) for dofn, elements in jobs]
    (folder / "jobs.json").write_text(json.dumps(pickled))
    (folder / "blocked.json").write_text(json.dumps(blocked_modules()))
    process = subprocess.run(
        [sys.executable, "clean_worker.py", str(folder / "jobs.json"),
         str(folder / "blocked.json")],
        cwd=folder / "site", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_every_dofn_starts_and_works_with_a_workers_requirements_alone(tmp_path):
    write_dataset(tmp_path)
    output, scratch = tmp_path / "out", tmp_path / "scratch"
    assert make_records.main([*record_flags(tmp_path, output), "--plan_only"]) == 0
    shards = json.loads((output / "plan" / "plan.json").read_text())["shards"]
    numbers = list(range(len(shards)))
    claim_size(str(output), 64, RenderSpec())
    work = ShardJob(
        output=str(output),
        sources=Sources(images=f"{tmp_path}/jpeg"),
        sizes=(64,),
        render=RenderSpec(),
        threads=2,
    )
    records, met = f"{output}/64", str(scratch)
    (scratch / "ends").mkdir(parents=True)
    make = MakeRecords(
        work=work, shards=len(shards), rows=24, what="images", max_failures=0, before=(ABSENT,)
    )  # fmt: skip
    verify = VerifyRecords(
        records=records, scratch=met, threads=2, shards=len(shards), examples=24,
        table_classes=None,
    )  # fmt: skip
    save_dataset(open_dataset(f"{tmp_path}/jpeg", stems=False), f"{met}/dataset0.json")
    find = FindDuplicates(
        folders=(f"{tmp_path}/jpeg",), scratch=met, threads=2, units=1, images=24, distance=7,
        output=f"{tmp_path}/twins.csv",
    )  # fmt: skip
    jobs = [
        (WriteShard(work), numbers),
        (Finish(make, f"{met}/ends/make"), [len(shards)]),
        (VerifyShard(records, met, 2), numbers),
        (Finish(verify, f"{met}/ends/verify"), [len(shards)]),
        (DrawThumbnails(met, 1, 2), [0]),
        (Finish(find, f"{met}/ends/find"), [1]),
    ]
    found = run_worker(tmp_path, jobs)
    assert found["done"] == [1] * len(shards) + [0] + [1] * len(shards) + [0] + [1, 0]
    assert not {"tensorflow", "keras", "trainer"} & set(found["modules"])
    for end in (scratch / "ends").iterdir():
        assert json.loads(end.read_text())["code"] == 0, end.read_text()
    assert json.loads((output / "64" / "manifest.json").read_text())["parts"]
    assert (tmp_path / "twins.csv").exists()


def test_what_setup_file_sends_to_workers_holds_both_packages(tmp_path):
    tree = tmp_path / "tree"  # setuptools writes into it
    for package in ("pipeline", "beam_jobs"):
        shutil.copytree(ROOT / package, tree / package)
    for name in ("setup.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    archive = Stager._build_setup_package(str(tree / "setup.py"), str(tmp_path))
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"setup.py", "README.md", "pyproject.toml"} <= names  # setup.py reads the README
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("pipeline", "beam_jobs")
        for path in (ROOT / package).rglob("*.py")
    }
    assert wanted <= names, sorted(wanted - names)


def test_a_dofn_that_needs_more_than_a_worker_has_would_be_noticed(tmp_path):
    with pytest.raises(AssertionError, match="a worker has no tensorflow"):
        run_worker(tmp_path, [(NeedsTensorFlow(), [0])])


class NeedsTensorFlow:
    """Imports on a worker what is not there."""

    def __reduce__(self):
        return (exec, ("import tensorflow",))
