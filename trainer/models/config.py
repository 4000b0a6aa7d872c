"""`[model]`: what to build. The config check reads it before TensorFlow starts."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pipeline.settings import nearest
from trainer.models.backbones import BACKBONES

BatchNorm = Literal["replica", "synchronised", "frozen"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone, the global average of its features, metadata when asked, and a linear head."""

    backbone: str = "efficientnet-b0"
    weights: Literal["imagenet"] | None = None  # None: from scratch
    dropout: float = 0.2  # before the head
    # Statistics of each replica's batch, or of the global one; "frozen": the moving statistics and
    # the scales stay as they are, for batches too small to have any.
    batch_norm: BatchNorm = "replica"
    # None: Keras' own 0.99, meaningless under some 300 steps: evaluation would still see the start.
    batch_norm_momentum: float | None = 0.9
    fusion: Literal["concat"] | None = None  # None: the image alone
    metadata_hidden: tuple[int, ...] = (32,)  # widths of the layers between metadata and fusion

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"unknown backbone {self.backbone!r}; {nearest(self.backbone, BACKBONES)}"
            )
        if self.weights and not self.backbone.startswith("efficientnet"):
            raise ValueError(f"weights must be none for {self.backbone}, got {self.weights!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.batch_norm_momentum is not None and not 0 < self.batch_norm_momentum < 1:
            raise ValueError(
                f"batch_norm_momentum must be in (0, 1), got {self.batch_norm_momentum}"
            )
        if any(width < 1 for width in self.metadata_hidden):
            raise ValueError(f"metadata_hidden must be widths above 0, got {self.metadata_hidden}")
