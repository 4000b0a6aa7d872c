"""What a verdict means on a type of TPU: rates, seconds and money at best.

By the roofline model (Williams et al. 2009, doi.org/10.1145/1498765.1498785): a step takes as long
as its arithmetic at the peak or its traffic at the full bandwidth, whichever is longer. Nothing
runs at its roofline: a rate is a bound, and seconds and money are the least there can be.
"""

from __future__ import annotations

import dataclasses

from trainer.preflight.compiler import Verdict
from trainer.preflight.tpu_types import TpuType


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """A step of `batch` examples on each core of a TPU."""

    tpu: TpuType
    verdict: Verdict
    batch: int

    @property
    def compute_s(self) -> float:
        """Its arithmetic alone."""
        return self.verdict.flops / self.tpu.flops

    @property
    def memory_s(self) -> float:
        """Its traffic alone."""
        return self.verdict.moved_bytes / self.tpu.bandwidth

    @property
    def seconds(self) -> float:
        """The least that a step takes."""
        return max(self.compute_s, self.memory_s)

    @property
    def bound(self) -> str:
        """What that is for: `compute` or `bandwidth`."""
        return "compute" if self.compute_s > self.memory_s else "bandwidth"

    @property
    def images_per_second(self) -> float:
        """Of all cores."""
        return self.batch * self.tpu.cores / self.seconds

    @property
    def flops_per_image(self) -> float:
        """Arithmetic."""
        return self.verdict.flops / self.batch

    @property
    def bytes_per_image(self) -> float:
        """Traffic between a core and its memory."""
        return self.verdict.moved_bytes / self.batch

    @property
    def memory_share(self) -> float:
        """Of a core's memory, what the step has in use at once; above 1 it does not fit."""
        return self.verdict.memory_bytes / self.tpu.memory_bytes


def epoch_s(training: Roofline, evaluation: Roofline, images: int, validation_images: int) -> float:
    """The least seconds of an epoch: whole training batches, then every validation image."""
    trained = images // (training.batch * training.tpu.cores)
    evaluated = -(-validation_images // (evaluation.batch * evaluation.tpu.cores))
    return trained * training.seconds + evaluated * evaluation.seconds
