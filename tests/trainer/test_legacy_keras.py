"""What `trainer.loop` and `trainer.models` promise, on tf_keras: it is chosen before TensorFlow."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLAIMS = (
    "test_dropout.py",
    "test_export.py",
    "test_fused_norm.py",
    "test_fusion.py",
    "test_heads.py",
    "test_init.py",
    "test_loop.py",
    "test_models.py",
    "test_precision.py",
    "test_resume.py",
    "test_stages.py",
    "test_stages_freezing.py",
    "test_weights.py",
    "test_xla.py",
)


@pytest.mark.slow  # minutes: all of these once more
@pytest.mark.skipif(
    not importlib.util.find_spec("tf_keras"), reason="tf_keras is not installed; make install does"
)
def test_the_loop_and_the_models_keep_their_promises_on_tf_keras():
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-m", "not slow"]
    done = subprocess.run(
        [*command, *(str(here / name) for name in CLAIMS)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        cwd=here.parents[1],
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
