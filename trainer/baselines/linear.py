"""One yes-or-no question, answered by a weighted sum: logistic regression or a linear SVM.

`fit_linear` is all that `trainer.baselines.fold_run` calls. How strongly weights are held small,
and Platt's sigmoid that turns an SVM's distance into a probability, are chosen on inner folds of
the training rows, by group: the validation rows choose nothing.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from trainer.metrics import roc_auc

LinearKind = Literal["logistic", "svm"]
ClassWeight = Literal["none", "balanced"]

INNER_FOLDS = 3
# scikit-learn's C, the larger the weaker the penalty. The squared hinge bends about ten times as
# much as the logistic loss, so that a tenth of C is the same penalty.
STRENGTHS: dict[LinearKind, tuple[float, ...]] = {
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    "svm": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
}
_MAX_ITERATIONS = 300

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """A fitted question; both kinds end as one, for Platt's sigmoid is of a linear function too."""

    weights: Floats  # [D]
    bias: float
    c: float | None  # None: nothing could be learnt, the bias is the base rate's

    def logits(self, features: npt.NDArray[np.float32]) -> Floats:
        """float32 [N, D] -> float64 [N]; their sigmoid is the probability of yes."""
        return np.asarray(features @ self.weights + self.bias)


# BLAS threads that wait for each other spin: matrices this small gain nothing by a second one, and
# on a machine that others use as well they have taken thirty times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_linear(
    kind: LinearKind,
    features: npt.NDArray[np.float32],
    is_positive: Bools,
    group: npt.NDArray[np.intp],
    class_weight: ClassWeight,
    seed: int,
) -> Linear:
    """float32 [N, D], bool [N], group numbers int [N] -> the model of these N rows.

    With "balanced" both classes weigh half, for the fit and for Platt's sigmoid: probabilities are
    then as if positives were as frequent as negatives. Every probability is the base rate where an
    inner fold's training part is of one class, so that nothing can be chosen, and where an SVM
    ranks its held-out rows upside down.
    """
    inner = inner_folds(is_positive, group, seed)
    if any(len(set(is_positive[inner != fold])) < 2 for fold in range(INNER_FOLDS)):
        return _base_rate(features.shape[1], is_positive, class_weight)
    weights = np.ones(len(is_positive))
    if class_weight == "balanced":
        weights = np.where(is_positive, 0.5 / is_positive.mean(), 0.5 / (1 - is_positive.mean()))

    best_auc, best_c, best_decision = -1.0, 0.0, np.empty(0)
    for c in STRENGTHS[kind]:
        decision = np.empty(len(is_positive))
        for fold in range(INNER_FOLDS):
            is_held_out = inner == fold
            mine = ~is_held_out
            model = _fit(kind, c, features[mine], is_positive[mine], weights[mine])
            decision[is_held_out] = model.decision_function(features[is_held_out])
        inner_auc = roc_auc(is_positive, decision)
        # From the strongest penalty on, upwards while it helps: weak ones take longest to fit.
        if inner_auc <= best_auc:
            break
        best_auc, best_c, best_decision = inner_auc, c, decision

    model = _fit(kind, best_c, features, is_positive, weights)
    slope, offset = 1.0, 0.0
    if kind == "svm":
        slope, offset = fit_sigmoid(best_decision, is_positive, weights)
        if slope <= 0:
            return _base_rate(features.shape[1], is_positive, class_weight)
    return Linear(
        weights=slope * model.coef_[0].astype(np.float64),
        bias=float(slope * model.intercept_[0] + offset),
        c=best_c,
    )


def inner_folds(is_positive: Bools, group: npt.NDArray[np.intp], seed: int) -> npt.NDArray[np.intp]:
    """bool [N], group numbers int [N] -> int [N] in 0…2: no group in two, each with its share of
    groups that hold positives, negatives or both.
    """
    groups = int(group.max(initial=-1)) + 1
    has_positive = np.bincount(group, is_positive, groups) > 0
    has_negative = np.bincount(group, ~is_positive, groups) > 0
    shuffled = np.random.default_rng(seed).permutation(groups)
    order = np.lexsort((shuffled, 2 * has_positive + has_negative))
    fold = np.empty(groups, np.intp)
    fold[order] = np.arange(groups) % INNER_FOLDS
    return fold[group]


def fit_sigmoid(decision: Floats, is_positive: Bools, weights: Floats) -> tuple[float, float]:
    """Slope and offset of the logit that a decision stands for: Platt 1999, on held-out rows.

    A penalty too small to matter keeps the slope finite where decisions part the classes.
    """
    model = LogisticRegression(C=1e4, max_iter=_MAX_ITERATIONS)
    model.fit(decision[:, None], is_positive, sample_weight=weights)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _base_rate(width: int, is_positive: Bools, class_weight: ClassWeight) -> Linear:
    odds = 1.0
    if class_weight == "none":
        odds = (is_positive.sum() + 1) / ((~is_positive).sum() + 1)
    return Linear(weights=np.zeros(width), bias=float(np.log(odds)), c=None)


def _fit(
    kind: LinearKind,
    c: float,
    features: npt.NDArray[np.float32],
    is_positive: Bools,
    weights: Floats,
) -> Any:
    if kind == "logistic":
        model = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS)
    else:
        # Squared hinge, in the primal: nothing of it is random. Liblinear takes `tol` times the
        # share of the rarer class; a tenth of it takes twice as long, for 0.002 of AUC at most.
        model = LinearSVC(C=c, dual=False, tol=0.1, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        # Weak penalties on rare classes may not converge. Held-out rows judge them as they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, is_positive, sample_weight=weights)
