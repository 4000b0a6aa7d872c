"""The TPUs of one host: what the compiler calls them, and what a core of them can do.

A core is what one replica runs on: v2 and v3 have two a chip, v4 makes one of its two ("megacore").
Peaks and memory are a chip's, from its page, over its cores; prices change and are left to a flag.
Memory is what the page says; of v5e's 16 GB the compiler grants 15.75 GiB, so they are GiB there
and, taken to be, on v6e. What is granted decides whether a step fits.
"""

from __future__ import annotations

import dataclasses

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuType:
    """A line of `TPU_TYPES`."""

    topology: str  # of `jax.experimental.topologies`
    chip_config: str | None = None
    cores: int
    memory_bytes: float  # of a core, as all that follow
    flops: float  # a second, bfloat16
    bandwidth: float  # bytes a second from and to its memory
    source: str


def _v5e(*, topology: str, cores: int) -> TpuType:
    return TpuType(
        topology=topology,
        cores=cores,
        memory_bytes=16 * _GIB,
        flops=197e12,
        bandwidth=819e9,
        source="docs.cloud.google.com/tpu/docs/v5e",
    )


TPU_TYPES = {
    "v2-8": TpuType(
        topology="v2:2x2x1",
        cores=8,
        memory_bytes=8 * _GIB,
        flops=45e12 / 2,
        bandwidth=700e9 / 2,
        source="doi.org/10.1109/MM.2021.3058217, cloud.google.com/tpu/pricing",
    ),
    "v3-8": TpuType(
        topology="v3:2x2x1",
        cores=8,
        memory_bytes=16 * _GIB,
        flops=123e12 / 2,
        bandwidth=900e9 / 2,
        source="docs.cloud.google.com/tpu/docs/v3",
    ),
    "v4-8": TpuType(
        topology="v4:2x2x1",
        chip_config="megacore",
        cores=4,
        memory_bytes=32 * _GIB,
        flops=275e12,
        bandwidth=1200e9,
        source="docs.cloud.google.com/tpu/docs/v4",
    ),
    "v5e-1": _v5e(topology="v5e:1x1", cores=1),
    "v5e-4": _v5e(topology="v5e:2x2", cores=4),
    "v5e-8": _v5e(topology="v5e:2x4", cores=8),
    "v6e-8": TpuType(
        topology="v6e:2x4",
        cores=8,
        memory_bytes=32 * _GIB,
        flops=918e12,
        bandwidth=1638e9,
        source="docs.cloud.google.com/tpu/docs/v6e",
    ),
}
