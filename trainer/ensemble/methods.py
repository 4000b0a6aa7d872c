"""What each method chooses, from the rows that it is given: an `Ensemble` comes out.

`trainer.ensemble.honest` calls `fit` once for each fold, with the rows of the others, and once with
all of them. Nothing here sees a row outside `Choice.is_in`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from pipeline.combine import (
    Ensemble,
    Reference,
    Scale,
    inverse_logits,
    logits_of,
    rank_reference,
    weighted_sum,
)
from pipeline.errors import DataError
from pipeline.predictions import output_classes
from pipeline.records.label import LabelInfo
from trainer.ensemble.scoring import Floats, Scorer
from trainer.ensemble.subsets import best_subset, chosen_weights

GREEDY_ROUNDS = 50  # members taken, with repeats
WEIGHT_STEPS = (1.0, 0.5, 0.25, 0.125)  # of weights that begin at one
RIDGE = 1.0  # draws stacked weights to their mean, in units of one row's log loss


class ChoiceError(DataError):
    """The rows given cannot choose: they lack a class."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The members, and the rows that may choose among them."""

    label: LabelInfo
    members: Sequence[Floats]  # float64 [N, L] each
    truths: Floats  # float64 [N, L of truth], NaN for unknown
    is_in: npt.NDArray[np.bool_]
    scorer: Scorer
    without: int | None = None  # the place of the fold left out among the scorer's, or none
    subsets: Floats | None = None  # float64 [2**M, 1 + folds], for optimal
    given_weights: Sequence[float] | None = None

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """bool [N]: the rows that may choose and whose target is known in part."""
        return self.is_in & ~np.isnan(self.truths).all(axis=1)

    def figure(self, weights: Floats) -> float:
        """What a search raises: the metric of the weighted sum, on the rows that choose."""
        kept = np.flatnonzero(weights).tolist()
        total = weighted_sum([self.members[place] for place in kept], weights[kept])
        place = 0 if self.without is None else 1 + self.without
        return float(self.scorer.chosen_by(self.scorer.scores(total))[place])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """The numbers of an `Ensemble`: weights float64 [M] or [M, L]."""

    weights: Floats
    scale: Scale = "prob"
    offset: Floats | None = None
    references: tuple[Reference, ...] = ()


def fit_mean(choice: Choice) -> Fitted:
    """All alike: nothing is chosen."""
    return Fitted(weights=np.ones(len(choice.members)))


def fit_geometric(choice: Choice) -> Fitted:
    """The mean of log-odds, which is the geometric mean of odds, and of classes' probabilities."""
    members, classes = len(choice.members), len(output_classes(choice.label))
    return Fitted(weights=np.full(members, 1 / members), scale="log_odds", offset=np.zeros(classes))


def fit_weighted(choice: Choice) -> Fitted:
    """The weights given, or those that a search of single steps up and down ends at."""
    if choice.given_weights is not None:
        return Fitted(weights=np.array(choice.given_weights))
    weights = np.ones(len(choice.members))
    best = choice.figure(weights)
    for step in WEIGHT_STEPS:
        is_raised = True
        while is_raised:
            is_raised = False
            for place in range(len(weights)):
                for change in (step, -step):
                    tried = weights.copy()
                    tried[place] = max(0.0, tried[place] + change)
                    figure = choice.figure(tried) if tried.any() else best
                    if figure > best:
                        weights, best, is_raised = tried, figure, True
    return Fitted(weights=weights)


def fit_greedy(choice: Choice) -> Fitted:
    """One by one the member is added that helps most, again if need be; the best of all rounds.

    Caruana and others, "Ensemble selection from libraries of models" (ICML 2004), section 2. It
    does not end where the figure first falls: one member twice is no better than once, and yet on
    the way to two parts of it in three.
    """
    weights = np.zeros(len(choice.members))
    best, best_weights = -np.inf, weights
    for _ in range(GREEDY_ROUNDS):
        figures = [choice.figure(weights + one) for one in np.eye(len(weights))]
        place = int(np.argmax(figures))
        weights[place] += 1
        if figures[place] > best:
            best, best_weights = figures[place], weights.copy()
    return Fitted(weights=best_weights)


def fit_optimal(choice: Choice) -> Fitted:
    """The best of all subsets."""
    assert choice.subsets is not None
    place = 0 if choice.without is None else 1 + choice.without
    chosen = best_subset(choice.subsets[:, place])
    return Fitted(weights=chosen_weights(chosen, len(choice.members)))


def fit_rank(choice: Choice) -> Fitted:
    """The mean of each member's rank among its own scores of the rows that choose."""
    return Fitted(
        weights=np.ones(len(choice.members)),
        scale="rank",
        references=tuple(rank_reference(probs[choice.is_in]) for probs in choice.members),
    )


def fit_zscore(choice: Choice) -> Fitted:
    """The mean of log-odds, each member's with mean 0 and deviation 1 over the rows that choose."""
    logits = np.stack(
        [logits_of(probs[choice.is_in], choice.label.kind) for probs in choice.members]
    )
    mean, std = logits.mean(axis=1), logits.std(axis=1)
    # A member that says the same of all rows says nothing: no weight.
    weights = np.divide(1, std * len(std), out=np.zeros_like(std), where=std > 0)
    return Fitted(weights=weights, scale="log_odds", offset=-(weights * mean).sum(axis=0))


def fit_stacking(choice: Choice) -> Fitted:
    """Logistic regression on the members' log-odds; softmax with one weight a member for classes.

    A ridge draws the weights to the plain mean, so that few positives do not run away with them.
    """
    known, kind = choice.known, choice.label.kind
    logits = np.stack([logits_of(probs[known], kind) for probs in choice.members])  # [M, N, L]
    truths = choice.truths[known]
    if kind == "multiclass":
        of_members, offset = _regression(logits, truths, kind)
        return Fitted(weights=of_members, scale="log_odds", offset=offset)
    weights, offsets = [], []
    for place in range(truths.shape[1]):
        is_known = ~np.isnan(truths[:, place])
        column = slice(place, place + 1)
        of_class = _regression(logits[:, is_known, column], truths[is_known, column], kind)
        weights.append(of_class[0])
        offsets.append(of_class[1])
    return Fitted(
        weights=np.stack(weights, axis=1), scale="log_odds", offset=np.concatenate(offsets)
    )


METHODS: Mapping[str, Callable[[Choice], Fitted]] = {
    "mean": fit_mean,
    "weighted": fit_weighted,
    "geometric": fit_geometric,
    "rank": fit_rank,
    "zscore": fit_zscore,
    "stacking": fit_stacking,
    "greedy": fit_greedy,
    "optimal": fit_optimal,
}
CHOOSES_NOTHING = ("mean", "geometric")
BY_TARGET = ("weighted", "stacking", "greedy", "optimal")  # need rows of each class


def fit(
    method: str, choice: Choice, names: Sequence[str], *, is_calibrated: bool = False
) -> Ensemble:
    """The ensemble that the rows of a choice lead to, without the members that it gives no weight.

    Raises:
      ChoiceError: they lack a class, so that they cannot tell one member from another.
    """
    is_by_target = method in BY_TARGET and choice.given_weights is None
    if (is_by_target or is_calibrated) and np.isnan(choice.figure(np.ones(len(names)))):
        _refuse(choice, choice.scorer.metric.name)
    fitted = METHODS[method](choice)
    classes = output_classes(choice.label)
    weights = np.broadcast_to(fitted.weights.reshape(len(names), -1), (len(names), len(classes)))
    kept = np.flatnonzero(weights.any(axis=1)).tolist()
    if not kept:  # members that say the same of every row: any is as good
        kept = [0]
    ensemble = Ensemble(
        method=method,
        kind=choice.label.kind,
        classes=classes,
        members=tuple(names[place] for place in kept),
        scale=fitted.scale,
        weights=tuple(tuple(weights[place].tolist()) for place in kept),
        offset=() if fitted.offset is None else tuple(fitted.offset.tolist()),
        references=tuple(fitted.references[place] for place in kept if fitted.references),
    )
    by_name = dict(zip(names, choice.members, strict=True))
    if is_calibrated:
        probs = ensemble.combine({name: probs[choice.known] for name, probs in by_name.items()})
        temperature = _temperature(probs, choice.truths[choice.known], ensemble.kind)
        ensemble = dataclasses.replace(ensemble, temperature=temperature)
    scorer = choice.scorer
    thresholds = scorer.thresholds(scorer.scores(stored(ensemble.combine(by_name))), choice.without)
    if np.isnan(thresholds).any():
        _refuse(choice, scorer.metric.name)
    return dataclasses.replace(ensemble, thresholds=thresholds)


def stored(probs: Floats) -> Floats:
    """As a predictions file keeps them: a threshold must fall on the same side there."""
    return probs.astype(np.float32).astype(np.float64)


def log_loss(probs: Floats, truths: Floats, kind: str) -> float:
    """Summed over rows and known classes; float64 [N, L] both."""
    probs = np.clip(probs, 1e-15, 1.0)
    losses = truths * np.log(probs)
    if kind != "multiclass":
        losses += (1 - truths) * np.log1p(-np.minimum(probs, 1 - 1e-15))
    return float(-np.nansum(losses))


def _regression(logits: Floats, truths: Floats, kind: str) -> tuple[Floats, Floats]:
    """float64 [M, N, L], [N, L] -> the weights [M] and the offset [L] of the least log loss."""
    members = len(logits)
    start = np.concatenate([np.full(members, 1 / members), np.zeros(truths.shape[1])])

    def loss_and_slope(values: Floats) -> tuple[float, Floats]:
        weights, offset = values[:members], values[members:]
        probs = inverse_logits(np.tensordot(weights, logits, 1) + offset, kind)
        error = probs - truths
        slope = np.concatenate([np.tensordot(logits, error, 2), error.sum(axis=0)])
        from_mean = values - start
        loss = log_loss(probs, truths, kind) + RIDGE * from_mean @ from_mean / 2
        return loss, slope + RIDGE * from_mean

    found = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B").x
    return found[:members], found[members:]


def _temperature(probs: Floats, truths: Floats, kind: str) -> float:
    """The divisor of the logits with the least log loss, in [1/20, 20].

    Guo and others, "On calibration of modern neural networks" (ICML 2017), section 4.2.
    """
    logits = logits_of(probs, kind)

    def loss(log_temperature: float) -> float:
        return log_loss(inverse_logits(logits / np.exp(log_temperature), kind), truths, kind)

    limit = np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def _refuse(choice: Choice, metric: str) -> None:
    raise ChoiceError(
        f"ensemble: the rows that choose must have positives and negatives for {metric}, got "
        f"{int(choice.known.sum())} known rows that lack one; give more folds, or --method mean"
    )
