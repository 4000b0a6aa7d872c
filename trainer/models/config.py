"""`[model]`: what to build. The config check reads it before TensorFlow starts."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from pipeline.settings import nearest
from trainer.models.backbones import BACKBONES, BACKENDS, Backend
from trainer.models.published import PUBLISHED

BatchNorm = Literal["replica", "synchronised", "frozen"]
Fusion = Literal["concat", "film"]
Pooling = Literal["avg", "max", "gem"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A backbone, its features pooled, metadata when asked, and a linear head."""

    backbone: str = "efficientnet-b0"
    backend: Backend = "keras"  # whose EfficientNet; weights of one load into the other
    # "imagenet", "noisy-student", or a file of weights (.h5, .keras); None: from scratch
    weights: str | None = None
    pooling: Pooling = "avg"  # "gem": generalised mean, between the two
    gem_power: float = 3.0  # 1 is the mean, infinity the maximum
    gem_learned: bool = True  # the power is trained, from `gem_power` on
    dropout: float = 0.2  # before the head
    dropout_samples: int = 1  # masks whose logits are averaged in training
    # Statistics of each replica's batch, or of the global one; "frozen": the backbone's moving
    # statistics and scales stay as they are, for batches too small to have any.
    batch_norm: BatchNorm = "replica"
    # None: Keras' own 0.99, meaningless under some 300 steps: evaluation would still see the start.
    batch_norm_momentum: float | None = 0.9
    # BatchNorm, swish, squeeze-and-excite in fewer passes; None: where layers compute in bfloat16.
    fused_norm: bool | None = None
    fusion: Fusion | None = None  # None: the image alone
    fusion_units: tuple[int, ...] = (512, 128)  # widths of the layers that metadata goes through
    fusion_dropout: float = 0.3  # between these layers
    metadata_dropout: float = 0.0  # the share of examples whose metadata is hidden in training
    metadata_column_dropout: float = 0.0  # the share of their values that is hidden, each by itself

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"unknown backbone {self.backbone!r}; {nearest(self.backbone, BACKBONES)}"
            )
        if self.backbone not in BACKENDS[self.backend]:
            raise ValueError(
                f"backend must be 'keras' for {self.backbone}, got {self.backend!r}; "
                "drop the setting"
            )
        self._check_weights()
        if not 0 < self.gem_power < math.inf:
            raise ValueError(f"gem_power must be above 0 and finite, got {self.gem_power}")
        if self.dropout_samples < 1:
            raise ValueError(f"dropout_samples must be 1 or more, got {self.dropout_samples}")
        shares = ("dropout", "fusion_dropout", "metadata_dropout", "metadata_column_dropout")
        for name in shares:
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if self.batch_norm_momentum is not None and not 0 < self.batch_norm_momentum < 1:
            raise ValueError(
                f"batch_norm_momentum must be in (0, 1), got {self.batch_norm_momentum}"
            )
        if any(width < 1 for width in self.fusion_units):
            raise ValueError(f"fusion_units must be widths above 0, got {self.fusion_units}")

    def _check_weights(self) -> None:
        if self.weights is None or self.weights.endswith((".h5", ".hdf5", ".keras")):
            return
        names = {name for _, name in PUBLISHED}
        if self.weights not in names:
            raise ValueError(
                "weights must be 'imagenet', 'noisy-student', a file that ends in .h5 or .keras, "
                f"or none, got {self.weights!r}; {nearest(self.weights, names)}"
            )
        if not self.backbone.startswith("efficientnet-"):
            raise ValueError(
                f"weights must be a file or none for {self.backbone}, got {self.weights!r}"
            )
