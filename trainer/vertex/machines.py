"""What Vertex AI calls the TPUs of one host.

From its "Configure compute resources for custom training" and "Training with TPU accelerators"
  https://cloud.google.com/vertex-ai/docs/training/configure-compute
  https://cloud.google.com/vertex-ai/docs/training/training-with-tpu-vm
of v2, v3 and v5e, on which TensorFlow runs (of v6e the second names JAX and PyTorch only). Topology
and host of a v5e are Cloud TPU's own: https://cloud.google.com/tpu/docs/v5e
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.errors import SettingsError
from pipeline.settings import nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """A `MachineSpec` of the API, and how many replicas a batch is split over."""

    machine_type: str
    accelerator_type: str | None = None  # of the first TPUs, which share one machine type
    accelerator_count: int | None = None
    tpu_topology: str | None = None
    replicas: int

    def as_spec(self) -> dict[str, Any]:
        """In the API's names."""
        fields = dataclasses.asdict(self)
        return {
            name: value
            for name, value in fields.items()
            if name != "replicas" and value is not None
        }


MACHINES: dict[str, Machine] = {
    "v2-8": Machine(
        machine_type="cloud-tpu", accelerator_type="TPU_V2", accelerator_count=8, replicas=8
    ),
    "v3-8": Machine(
        machine_type="cloud-tpu", accelerator_type="TPU_V3", accelerator_count=8, replicas=8
    ),
    "v5e-1": Machine(machine_type="ct5lp-hightpu-1t", tpu_topology="1x1", replicas=1),
    "v5e-4": Machine(machine_type="ct5lp-hightpu-4t", tpu_topology="2x2", replicas=4),
    "v5e-8": Machine(machine_type="ct5lp-hightpu-8t", tpu_topology="2x4", replicas=8),
}


def find_machine(tpu_type: str) -> Machine:
    """The machine of `--tpu_type`; SettingsError names the nearest."""
    if tpu_type.startswith("v6e"):
        raise SettingsError(
            f"--tpu_type must be one of {', '.join(MACHINES)}, got {tpu_type!r}, for which Vertex "
            "AI names JAX and PyTorch alone; take a v5e"
        )
    if tpu_type not in MACHINES:
        raise SettingsError(
            f"--tpu_type must be one of {', '.join(MACHINES)}, got {tpu_type!r}; "
            f"{nearest(tpu_type, MACHINES)}"
        )
    return MACHINES[tpu_type]
