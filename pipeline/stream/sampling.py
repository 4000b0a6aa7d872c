"""How often each class is drawn: as often as it occurs, every class alike, or a share of positives.

Without TensorFlow, so that a recipe is checked before that starts. `pipeline.stream.order` turns
the draws into the keys of an epoch.

An epoch has as many draws as there are examples. Each stratum (examples that are drawn alike) is an
endless row of permutations of its examples, and each epoch takes its next draws of that row: no
example is drawn a second time before all of its stratum were drawn once, over epochs as well. Where
an epoch stands in the row follows from its number, so nothing is kept from one to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SettingsError
from pipeline.records.label import LabelInfo
from pipeline.stream.seeds import draw_seed, shuffle_seed

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositiveShare:
    """Of an epoch's draws, this share is of positive classes."""

    positive_share: float

    def __post_init__(self) -> None:
        if not 0 < self.positive_share < 1:
            raise ValueError(f"positive_share must be in (0, 1), got {self.positive_share}")


Sampling = Literal["natural", "balanced"] | PositiveShare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stratum:
    """Classes whose examples are drawn alike, and their share of the draws."""

    classes: tuple[int, ...]
    share: float
    examples: int


def check_sampling(sampling: Sampling, label: LabelInfo, where: str) -> None:
    """Raises SettingsError for a sampling that a label of this kind cannot have."""
    if sampling == "natural":
        return
    if label.kind not in ("binary", "multiclass"):
        raise SettingsError(
            f"{where}: data.sampling must be 'natural' for records without one class an example, "
            f"got {sampling!r} for a {label.kind} label"
        )
    if isinstance(sampling, PositiveShare) and not _positives(label):
        raise SettingsError(
            f"{where}: data.sampling must be 'natural' or 'balanced' without positive classes, got "
            f"{sampling!r}; name them under [label] positive in the dataset spec"
        )


def find_strata(
    sampling: Sampling, label: LabelInfo, examples: Mapping[str, int], where: str
) -> tuple[Stratum, ...]:
    """The strata of examples counted by class; none for natural sampling.

    Examples without a label are in none, for they teach nothing. Raises SettingsError as
    `check_sampling` does, and when there is nothing to draw from.
    """
    check_sampling(sampling, label, where)
    if sampling == "natural":
        return ()
    counts = [examples.get(name, 0) for name in label.classes]
    if isinstance(sampling, PositiveShare):
        positives = _positives(label)
        share = sampling.positive_share
        negatives = tuple(set(range(len(counts))) - set(positives))
        groups = [(positives, share), (negatives, 1 - share)]
    else:
        occurring = [place for place, count in enumerate(counts) if count]
        groups = [((place,), 1 / len(occurring)) for place in occurring]
    strata = tuple(
        Stratum(classes=classes, share=share, examples=sum(counts[place] for place in classes))
        for classes, share in groups
    )
    for stratum in strata or (Stratum(classes=(), share=1, examples=0),):
        if not stratum.examples:
            names = " or ".join(label.classes[place] for place in stratum.classes) or "any class"
            raise SettingsError(
                f"{where}: data.sampling must have examples to draw, got none of {names} in "
                f"training for {sampling!r}"
            )
    return strata


class Sampler:
    """The draws of every epoch, from strata of known sizes."""

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], draws: int, seed: int):
        assert len(sizes) == len(shares)
        assert min(sizes) > 0
        self._sizes, self._seed = sizes, seed
        self.quotas = _quotas(shares, draws)  # of an epoch, by stratum

    def strata(self, epoch: int) -> Indices:
        """int64 [draws]: the stratum that each place of an epoch is drawn from."""
        in_turn = np.repeat(np.arange(len(self.quotas)), self.quotas)
        return np.random.default_rng(shuffle_seed(self._seed, epoch)).permutation(in_turn)

    def rounds(self, stratum: int, epoch: int) -> list[tuple[int, slice]]:
        """(seed, places) of each permutation of a stratum that an epoch draws from, in turn."""
        size, quota = self._sizes[stratum], self.quotas[stratum]
        start, stop = epoch * quota, (epoch + 1) * quota
        return [
            (
                draw_seed(self._seed, stratum, number),
                slice(max(start - number * size, 0), min(stop - number * size, size)),
            )
            for number in range(start // size, -(-stop // size))
        ]

    def draws(self, stratum: int, epoch: int) -> Indices:
        """int64 [quota] in [0, size): which of a stratum's examples an epoch draws, in order."""
        drawn = [
            np.random.default_rng(seed).permutation(self._sizes[stratum])[places]
            for seed, places in self.rounds(stratum, epoch)
        ]
        return np.concatenate([np.empty(0, np.int64), *drawn])


def _positives(label: LabelInfo) -> tuple[int, ...]:
    if label.kind == "binary":
        return (1,)  # whatever its name: see `pipeline.predictions.scores`
    return tuple(i for i, name in enumerate(label.classes) if name in label.positive)


def _quotas(shares: Sequence[float], draws: int) -> tuple[int, ...]:
    """`draws` over some shares, each rounded down or up."""
    exact = np.array(shares) / sum(shares) * draws
    quotas = np.floor(exact).astype(np.int64)
    short = np.argsort(quotas - exact, kind="stable")[: draws - quotas.sum()]
    quotas[short] += 1
    return tuple(quotas.tolist())
