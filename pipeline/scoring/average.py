"""Several models' outputs → one: the mean over a member's folds, then the ensemble's way or a mean.

Row by row, so that a row's scores do not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.combine import Ensemble, EnsembleError, logits_of, weighted_sum
from pipeline.predictions import output_classes
from pipeline.records.label import LabelInfo

Floats = npt.NDArray[np.float64]


def average(
    outputs: Mapping[str, Sequence[tuple[Floats, Floats]]],
    label: LabelInfo,
    ensemble: Ensemble | None,
) -> tuple[Floats, Floats]:
    """(logits, probs) float64 [N, L] of each member's models -> (logits, probs) of all together.

    A single model keeps its own logits; those of several are the ones of the mean probabilities.
    """
    models = [of_model for of_member in outputs.values() for of_model in of_member]
    if len(models) == 1 and ensemble is None:
        return models[0]
    by_member = {
        name: _mean([probs for _, probs in of_member]) for name, of_member in outputs.items()
    }
    probs = ensemble.combine(by_member) if ensemble else _mean(list(by_member.values()))
    return logits_of(probs, label.kind), probs


def check_ensemble(ensemble: Ensemble, label: LabelInfo, where: str) -> None:
    """Raises EnsembleError where an ensemble is of another label than the models."""
    own, wanted = (ensemble.kind, ensemble.classes), (label.kind, output_classes(label))
    if own != wanted:
        raise EnsembleError(
            f"{where}: kind and classes must be the models', {wanted[0]} of "
            f"{', '.join(wanted[1])}, got {own[0]} of {', '.join(own[1])}; give the models that "
            "the ensemble is of"
        )


def _mean(members: Sequence[Floats]) -> Floats:
    weights = np.ones((len(members), members[0].shape[1]))
    return np.asarray(weighted_sum(members, weights) / len(members))
