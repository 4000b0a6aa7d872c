"""`trainer.baselines.linear`: what inner folds choose, and that the rest is scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from trainer.baselines.linear import STRENGTHS, fit_linear, fit_sigmoid, inner_folds


def toy_rows(rows=240, seed=0, share=0.25, signal=1.5):
    """Four columns of which the first tells the class; groups of two rows."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(rows) < share
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    features[:, 0] += signal * is_positive
    return features, is_positive, np.arange(rows) // 2


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_logistic_regression_is_scikit_learns_at_the_chosen_strength(class_weight):
    features, is_positive, group = toy_rows()
    fitted = fit_linear("logistic", features, is_positive, group, class_weight, seed=0)
    assert fitted.c in STRENGTHS["logistic"]
    weight = None if class_weight == "none" else "balanced"
    model = LogisticRegression(C=fitted.c, class_weight=weight, max_iter=1000)
    expected = model.fit(features, is_positive).decision_function(features)
    np.testing.assert_allclose(fitted.logits(features), expected, atol=1e-3)


def test_an_svm_ranks_as_scikit_learns_and_its_probabilities_are_calibrated():
    features, is_positive, group = toy_rows(rows=2000)
    fitted = fit_linear("svm", features, is_positive, group, "none", seed=0)
    model = LinearSVC(C=fitted.c, dual=False, tol=0.1).fit(features, is_positive)
    logits = fitted.logits(features)
    assert np.corrcoef(logits, model.decision_function(features))[0, 1] > 1 - 1e-6
    probs = 1 / (1 + np.exp(-logits))
    assert probs.mean() == pytest.approx(is_positive.mean(), abs=0.02)
    sure = probs > np.quantile(probs, 0.9)
    assert probs[sure].mean() == pytest.approx(is_positive[sure].mean(), abs=0.08)


def test_balanced_probabilities_are_as_if_classes_were_equally_frequent():
    features, is_positive, group = toy_rows(rows=2000, share=0.05)
    for kind in ("logistic", "svm"):
        plain, balanced = (
            fit_linear(kind, features, is_positive, group, weight, seed=0).logits(features)
            for weight in ("none", "balanced")
        )
        assert (plain[is_positive] > 0).mean() < 0.3, kind
        assert (balanced[is_positive] > 0).mean() > 0.6, kind
        shift = np.log((~is_positive).sum() / is_positive.sum())
        assert np.median(balanced - plain) == pytest.approx(shift, abs=0.5), kind


def test_the_penalty_is_the_best_on_inner_folds_of_those_before_the_first_fall():
    features, is_positive, group = toy_rows(rows=120)
    rng = np.random.default_rng(0)
    noisy = np.concatenate([features, rng.normal(size=(120, 100))], axis=1).astype(np.float32)
    inner = inner_folds(is_positive, group, seed=0)
    aucs = []
    for c in STRENGTHS["logistic"]:
        held_out = np.empty(120)
        for fold in range(3):
            mine = inner != fold
            model = LogisticRegression(C=c, max_iter=1000).fit(noisy[mine], is_positive[mine])
            held_out[~mine] = model.decision_function(noisy[~mine])
        aucs.append(roc_auc_score(is_positive, held_out))
    falls = [place for place in range(1, 5) if aucs[place] <= aucs[place - 1]]
    expected = STRENGTHS["logistic"][falls[0] - 1 if falls else 4]
    assert fit_linear("logistic", noisy, is_positive, group, "none", seed=0).c == expected


def test_the_sigmoid_gives_back_the_logits_that_made_the_classes():
    rng = np.random.default_rng(0)
    decision = rng.normal(size=20_000)
    is_positive = rng.random(20_000) < 1 / (1 + np.exp(-(2 * decision - 1)))
    slope, offset = fit_sigmoid(decision, is_positive, np.ones(20_000))
    assert (slope, offset) == pytest.approx((2, -1), abs=0.1)


def test_inner_folds_keep_groups_whole_and_share_out_the_positives():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 90, 600)
    is_positive = group % 10 == 0  # nine groups
    fold = inner_folds(is_positive, group, seed=4)
    assert all(len(set(fold[group == number])) == 1 for number in set(group))
    with_positives = [len(set(group[is_positive & (fold == number)])) for number in range(3)]
    assert with_positives == [3, 3, 3]


def test_rows_do_not_change_the_fit_by_their_order():
    features, is_positive, group = toy_rows()
    order = np.random.default_rng(0).permutation(len(group))
    one = fit_linear("logistic", features, is_positive, group, "none", seed=0)
    other = fit_linear(
        "logistic", features[order], is_positive[order], group[order], "none", seed=0
    )
    assert one.c == other.c
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)


@pytest.mark.parametrize(("class_weight", "expected"), [("none", 2 / 41), ("balanced", 0.5)])
def test_too_few_positives_to_choose_by_give_the_base_rate(class_weight, expected):
    features, _, group = toy_rows(rows=39)
    is_positive = np.arange(39) == 5
    fitted = fit_linear("logistic", features, is_positive, group, class_weight, seed=0)
    assert fitted.c is None
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.logits(features))), expected)


def test_a_class_whose_rows_are_all_unknown_is_even_odds():
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, bool), np.zeros(0, np.intp)
    fitted = fit_linear("svm", *nothing, "none", seed=0)
    np.testing.assert_array_equal(fitted.logits(np.ones((3, 4), np.float32)), 0)


def test_an_svm_that_ranks_held_out_rows_upside_down_gives_the_base_rate():
    # What tells the classes apart has the other sign in one of the three inner folds.
    group = np.repeat(np.arange(6), 5)
    is_positive = group % 2 == 0
    features = np.where(is_positive, 1, -1)[:, None].astype(np.float32)
    inner = inner_folds(is_positive, group, seed=0)
    features[inner == 0] *= -3
    fitted = fit_linear("svm", features, is_positive, group, "none", seed=0)
    assert fitted.c is None
    assert not fitted.weights.any()
