"""An ensemble as plain numbers, and the one way to apply it: numpy in, numpy out.

`trainer.ensemble` chooses the numbers and writes them as JSON; prediction and the scoring of images
read that JSON and call `Ensemble.combine`. Whatever the method, an ensemble is a scale on which its
members are added, a weight for each, and an offset:

    mean, weighted, greedy, optimal   probabilities, divided by the sum of the weights
    geometric, zscore, stacking       log-odds (of several classes: logarithms) plus an offset
    rank                              each member's place among the scores it was fitted on

Sums are taken member by member in the order of `members`, so equal input gives equal bits.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.errors import DataError, SettingsError

Probs = npt.NDArray[np.float64]
Scale = Literal["prob", "log_odds", "rank"]
# A member's scores in rising order and the rank of each in [0, 1], a pair an output class.
Reference = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

SCHEMA_VERSION = 1
SMALLEST_PROB = 1e-7  # keeps the logit of a certain probability finite
REFERENCE_POINTS = 2001  # the most that a rank reference holds; between them ranks are straight


class EnsembleError(DataError):
    """An ensemble's file is missing or damaged, or the members given are not its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """What to do with the members' probabilities; `weights` float64 [M, L], `offset` [L]."""

    method: str
    kind: str  # of the label: binary | multiclass | multilabel
    classes: tuple[str, ...]  # of the L outputs
    members: tuple[str, ...]
    scale: Scale
    weights: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...] = ()  # on the scale of log-odds alone
    references: tuple[Reference, ...] = ()  # on the scale of ranks alone
    temperature: float = 1.0  # divides the combined logits
    thresholds: tuple[float, ...] = ()  # a score at or above it counts as positive, if chosen

    def __post_init__(self) -> None:
        size = (len(self.members), len(self.classes))
        if self.scale not in get_args(Scale):
            raise ValueError(f"scale must be prob, log_odds or rank, got {self.scale!r}")
        if not _are_numbers(self.weights, size):
            raise ValueError(f"weights must be {size[0]} x {size[1]} finite numbers")
        if self.scale == "log_odds" and not _are_numbers(self.offset, size[1:]):
            raise ValueError(f"offset must be {size[1]} finite numbers, got {self.offset}")
        if self.scale == "rank" and [len(columns) for columns in self.references] != [
            size[1]
        ] * len(self.members):
            raise ValueError("references must be a pair for each member and class")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def combine(self, members: Mapping[str, Probs]) -> Probs:
        """float64 [N, L] in [0, 1] for each member -> the same, combined.

        Ranks are no probabilities, though in [0, 1]; of several classes they are scaled to sum to
        one.

        Raises:
          EnsembleError: a member is not among those given.
        """
        lacking = [name for name in self.members if name not in members]
        if lacking:
            raise EnsembleError(
                f"ensemble: members must include {lacking[0]}, got {', '.join(members)}"
            )
        probs = self._on_scale([members[name] for name in self.members])
        if self.temperature != 1:
            probs = inverse_logits(logits_of(probs, self.kind) / self.temperature, self.kind)
        return probs

    def _on_scale(self, members: Sequence[Probs]) -> Probs:
        weights = np.array(self.weights)
        if self.scale == "log_odds":
            logits = [logits_of(probs, self.kind) for probs in members]
            return inverse_logits(weighted_sum(logits, weights) + self.offset, self.kind)
        if self.scale == "rank":
            members = [
                _ranks(probs, reference)
                for probs, reference in zip(members, self.references, strict=True)
            ]
        combined = weighted_sum(members, weights) / weights.sum(axis=0)
        if self.scale == "rank" and self.kind == "multiclass":
            combined /= combined.sum(axis=1, keepdims=True)
        # The last bits of a sum of weights may lead past one.
        return np.asarray(np.minimum(combined, 1.0))


def weighted_sum(members: Sequence[Probs], weights: npt.NDArray[np.float64]) -> Probs:
    """M arrays float64 [N, L] and weights [M, L] -> [N, L], added in the order of the members."""
    total = members[0] * weights[0]
    for member, weight in zip(members[1:], weights[1:], strict=True):
        total += member * weight
    return np.asarray(total)


def logits_of(probs: Probs, kind: str) -> npt.NDArray[np.float64]:
    """float64 [N, L] probabilities -> finite logits that give them back (softmax: up to a
    constant).
    """
    probs = np.clip(probs, SMALLEST_PROB, 1 - SMALLEST_PROB)
    return np.log(probs) if kind == "multiclass" else np.log(probs) - np.log1p(-probs)


def inverse_logits(logits: npt.NDArray[np.float64], kind: str) -> Probs:
    """float64 [N, L] -> probabilities: softmax for multiclass, else the sigmoid of each."""
    if kind == "multiclass":
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))  # without overflow


def rank_reference(probs: Probs) -> Reference:
    """float64 [N, L] -> each class's distinct scores and their mean ranks over N, thinned.

    (0, 0) and (1, 1) are added: a score beyond all of the reference still has a rank of its own.
    """
    columns = []
    for column in probs.T:
        values, counts = np.unique(column, return_counts=True)
        ranks = (np.cumsum(counts) - counts / 2) / len(column)
        if len(values) > REFERENCE_POINTS:
            kept = np.linspace(0, len(values) - 1, REFERENCE_POINTS).round().astype(int)
            values, ranks = values[kept], ranks[kept]
        inside = (values > 0) & (values < 1)
        columns.append(
            (
                (0.0, *values[inside].tolist(), 1.0),
                (0.0, *ranks[inside].tolist(), 1.0),
            )
        )
    return tuple(columns)


def _ranks(probs: Probs, reference: Reference) -> Probs:
    return np.stack(
        [np.interp(column, *pair) for column, pair in zip(probs.T, reference, strict=True)], axis=1
    )


def ensemble_to_json(ensemble: Ensemble, about: Mapping[str, Any]) -> str:
    """Plain numbers, each of which reads back as the same float64; `about` tells where from."""
    tables = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(ensemble), "about": about}
    return json.dumps(tables, indent=1, allow_nan=False) + "\n"


def ensemble_from_json(text: str, where: str) -> Ensemble:
    """What `ensemble_to_json` wrote; `where` names the file in messages.

    Raises:
      EnsembleError: it is not JSON, of another version, or a key is missing or unknown.
    """
    try:
        tables = json.loads(text)
    except json.JSONDecodeError as error:
        raise EnsembleError(
            f"{where}: not JSON: {error}; write it with trainer.ensemble"
        ) from error
    version = tables.get("schema_version") if isinstance(tables, dict) else None
    if version != SCHEMA_VERSION:
        raise EnsembleError(
            f"{where}: schema_version must be {SCHEMA_VERSION}, got {version}; "
            "write it with trainer.ensemble of this version"
        )
    values = {
        key: _frozen(value)
        for key, value in tables.items()
        if key not in ("schema_version", "about")
    }
    try:
        return Ensemble(**values)
    except (TypeError, ValueError) as error:
        raise EnsembleError(f"{where}: {error}; write it with trainer.ensemble") from error


def read_ensemble(path: str) -> Ensemble:
    """The ensemble of a file.

    Raises:
      SettingsError: there is no such file.
      EnsembleError: it is not one.
    """
    try:
        return ensemble_from_json(storage.read_text(path), path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise SettingsError(
            f"{path}: no such file; give what trainer.ensemble wrote as .json"
        ) from error


def _are_numbers(values: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == shape and bool(np.isfinite(array).all())


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
