"""notebooks/colab_tpu.ipynb: clean as committed, and it runs from top to bottom on a CPU."""

import copy
import importlib.util
import io
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import ROOT

PATH = ROOT / "notebooks" / "colab_tpu.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(PATH, as_version=4)


def source(notebook):
    return "\n".join(cell.source for cell in notebook.cells)


def test_no_output_is_committed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_asks_for_a_tpu(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.accelerator == "TPU"


def test_its_installs_are_those_of_the_makefile_and_keep_the_tpus_tensorflow(notebook):
    [alone] = re.findall(r"WITHOUT_DEPENDENCIES := (.*)", (ROOT / "Makefile").read_text())
    [line] = [line for line in source(notebook).splitlines() if "--no-deps" in line]
    assert re.findall(r'"(\S+==\S+)"', line) == alone.split()
    assert '".[tpu]"' in source(notebook)
    assert '"tpu": [' in (ROOT / "setup.py").read_text()


def test_every_file_it_names_is_there(notebook):
    names = re.findall(r"\b(?:configs|datasets|docs)/[\w./]+\w", source(notebook))
    assert {"configs/first_attempt/v2.toml", "configs/demo.toml"} <= set(names)
    for name in names:
        assert (ROOT / name).exists(), name


def test_run_again_on_colab_it_stays_in_the_clone_that_it_made(notebook, tmp_path, monkeypatch):
    [cell] = [cell.source for cell in notebook.cells if '"clone"' in cell.source]
    ran = []

    class Process:
        """Of a command that does nothing, but for a clone, which makes the folder."""

        def __init__(self, words, **_):
            ran.append(words)
            if words[:2] == ("git", "clone"):
                (Path.cwd() / words[-1]).mkdir()
                (Path.cwd() / words[-1] / "setup.py").touch()
            self.stdout, self.returncode = io.StringIO(), 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # which the cell sets
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "google.colab")
    for _ in range(2):
        exec(cell, {"SOURCE": "https://example.com/foldstream"})
        assert Path.cwd() == tmp_path / "foldstream"
    assert [words[:2] for words in ran].count(("git", "clone")) == 1
    assert not (tmp_path / "foldstream" / "foldstream").exists()


@pytest.mark.slow
def test_it_runs_from_top_to_bottom_on_a_cpu_with_phantoms(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("FOLDSTREAM_WORK", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    ran = copy.deepcopy(notebook)
    client = NotebookClient(
        ran,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(PATH.parent)}},
    )
    client.execute()
    text = "".join(
        output.get("text", "") for cell in ran.cells for output in cell.get("outputs", [])
    )
    assert ": no fault" in text
    assert "fold   0   AUC" in text
    assert (tmp_path / "run" / "predictions.parquet").exists()
    [auc] = re.findall(r"^AUC (0\.\d+), 95 % interval", text, re.MULTILINE)
    assert float(auc) > 0.5, text
