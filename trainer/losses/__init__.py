"""Losses by name: logits, targets and mask in, one float32 loss an example out.

`trainer.config` fits each `[[loss]]` entry to the records' label (`fit_loss`), `trainer.fold_run`
turns balanced class weights into those of the fold (`balance_classes`), `trainer.loop` sums the
losses, each times its weight (`example_losses`). The mask is also a weight: a masked example and a
target of -1 add nothing, neither to the loss nor to a gradient. A new loss is a function in
`formulas`, a line in the table of `config`, and a test.
"""

from trainer.losses.class_weights import balance_classes
from trainer.losses.config import LABEL_LOSSES, LOSSES, LossConfig, example_losses, fit_loss

__all__ = [
    "LABEL_LOSSES",
    "LOSSES",
    "LossConfig",
    "balance_classes",
    "example_losses",
    "fit_loss",
]
