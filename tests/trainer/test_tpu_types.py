"""The TPUs that `trainer.preflight` can be asked about, beside those that Vertex AI offers."""

import importlib.util
import os
import subprocess
import sys

import pytest

from conftest import ROOT
from trainer.preflight.tpu_types import TPU_TYPES
from trainer.vertex.machines import MACHINES

COUNT = """
from jax.experimental.topologies import get_topology_desc
from trainer.preflight.tpu_types import TPU_TYPES
for name, tpu in TPU_TYPES.items():
    config = {"chip_config_name": tpu.chip_config} if tpu.chip_config else {}
    found = get_topology_desc(topology_name=tpu.topology, platform="tpu", **config)
    assert len(found.devices) == tpu.cores, (name, len(found.devices))
"""


@pytest.mark.parametrize("tpu_type", MACHINES)
def test_what_vertex_trains_can_be_asked_about_before(tpu_type):
    assert tpu_type in TPU_TYPES
    assert TPU_TYPES[tpu_type].cores == MACHINES[tpu_type].replicas


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax", "libtpu"))),
    reason="the extra preflight is not installed; make install does",
)
def test_every_type_is_a_topology_of_the_compiler_with_so_many_cores():
    environment = {**os.environ, "TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", COUNT], env=environment, cwd=ROOT, check=True, timeout=99)
