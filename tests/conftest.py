"""Fixtures that every test may use."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A claim holds on a busy machine too: what must be quick is timed by benchmarks.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _in_float32_again() -> Iterator[None]:
    """A run in bfloat16 leaves Keras' policy behind, which is the process's."""
    yield
    if "trainer.precision" in sys.modules and "tensorflow" in sys.modules:
        sys.modules["trainer.precision"].set_precision("float32")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and tables; its tests are skipped where it is missing."""
    folder = Path(os.environ.get("FOLDSTREAM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set FOLDSTREAM_DATA to its folder")
    return folder
