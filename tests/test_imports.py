"""The import rule: who may import whom, and where TensorFlow may be imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("pipeline", "beam_jobs", "trainer", "benchmarks", "tests")
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "beam_jobs": {"beam_jobs", "pipeline"},
    "trainer": {"trainer", "pipeline"},
}
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "tensorflow_datasets", "efficientnet"}
MEND = "move the code to the package that may, or pass what it needs as an argument"


def imports(path: Path) -> Iterator[str]:
    """The full name of every module that a file imports, at any depth of nesting."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(package):
    assert modules(package)
    for path in modules(package):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top not in OURS or top in MAY_IMPORT[package], (
                f"{path.relative_to(ROOT)} imports {name}, but {package} may import only "
                f"{sorted(MAY_IMPORT[package])} of ours: {MEND}"
            )


def test_beam_jobs_do_not_import_the_stream():
    for path in modules("beam_jobs"):
        for name in imports(path):
            assert not name.startswith("pipeline.stream"), (
                f"{path.relative_to(ROOT)} imports {name}, which imports TensorFlow; "
                "Beam workers start without it"
            )


# Starts TensorFlow in a worker, for models that are TensorFlow's; tests/beam_jobs/test_score_images
# shows that neither its import nor its DoFns' unpickling does.
SCORES = ROOT / "beam_jobs" / "score_shards.py"


def test_tensorflow_is_imported_in_the_stream_and_the_trainer_alone():
    for path in modules("pipeline") + modules("beam_jobs"):
        if (ROOT / "pipeline" / "stream") in path.parents or path == SCORES:
            continue
        for name in imports(path):
            assert name.partition(".")[0] not in TENSORFLOW, (
                f"{path.relative_to(ROOT)} imports {name}: only pipeline/stream and trainer may"
            )
