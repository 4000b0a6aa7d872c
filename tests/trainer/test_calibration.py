"""`trainer.calibration`: scores of probabilities against scikit-learn, temperatures."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.calibration import (
    BINS,
    bin_of,
    brier_score,
    calibration_error,
    fit_temperature,
    reliability,
    scale_out_of_fold,
)
from trainer.metrics import roc_auc, truth


def random_rows(seed, count=300):
    rng = np.random.default_rng(seed)
    prob = rng.random(count)
    return (rng.random(count) < prob**2).astype(float), prob


@pytest.mark.parametrize("seed", range(4))
def test_brier_and_reliability_are_those_of_scikit_learn(seed):
    target, prob = random_rows(seed)
    assert brier_score(target, prob) == pytest.approx(brier_score_loss(target, prob), abs=1e-12)
    observed, predicted = calibration_curve(target, prob, n_bins=BINS)
    curve = reliability(target, prob)
    np.testing.assert_allclose(curve.observed, observed, atol=1e-12)
    np.testing.assert_allclose(curve.predicted, predicted, atol=1e-12)
    rows = np.histogram(prob, np.linspace(0, 1, BINS + 1))[0]
    expected = rows[rows > 0] @ np.abs(observed - predicted) / len(prob)
    assert calibration_error(target, prob) == pytest.approx(expected, abs=1e-12)


def test_certain_probabilities_are_in_the_outer_bins():
    assert bin_of(np.array([0.0, 1.0])).tolist() == [0, BINS - 1]


def test_a_probability_that_is_one_has_no_calibration_error():
    prob = np.repeat([0.25, 0.75], 40)
    target = np.concatenate([np.arange(40) < 10, np.arange(40) < 30]).astype(float)
    assert calibration_error(target, prob) == pytest.approx(0)
    assert calibration_error(1 - target, prob) == pytest.approx(0.5)


@given(st.floats(0.1, 10), st.integers(0, 5))
def test_logits_that_are_multiplied_have_a_temperature_that_is(factor, seed):
    target, prob = random_rows(seed)
    logits = (np.log(prob) - np.log1p(-prob))[:, None]
    plain = fit_temperature(logits, target[:, None], "binary")
    scaled = fit_temperature(factor * logits, target[:, None], "binary")
    assert scaled == pytest.approx(factor * plain, rel=1e-6)


def test_the_temperature_of_several_classes_makes_the_targets_likeliest():
    rng = np.random.default_rng(0)
    target, logits = np.arange(90) % 3, rng.normal(size=(90, 3))
    logits += 3 * np.eye(3)[target] * rng.random((90, 1))

    def loss(log_temperature):
        raised = np.exp(logits / np.exp(log_temperature))
        return log_loss(target, raised / raised.sum(axis=1, keepdims=True))

    best = np.exp(minimize_scalar(loss, bounds=(-4, 4), options={"xatol": 1e-10}).x)
    found = fit_temperature(logits, np.eye(3)[target], "multiclass")
    assert found == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_a_fold_does_not_choose_its_own_temperature(label):
    whole = toy_predictions(label, rows=60)
    folds = whole.frame["fold"].to_numpy()
    frame, other = whole.frame, whole.frame.copy()
    here = frame.index[frame["fold"] == 1]
    other.loc[here, "target"] = other.loc[here[::-1], "target"].to_numpy()
    _, before = scale_out_of_fold(whole, folds)
    _, after = scale_out_of_fold(dataclasses.replace(whole, frame=other), folds)
    assert before[1] == after[1]
    assert before[0] != after[0]


def test_scaling_keeps_the_order_within_a_fold():
    whole = toy_predictions(BINARY, rows=60)
    folds = whole.frame["fold"].to_numpy()
    scaled, _ = scale_out_of_fold(whole, folds)
    is_positive = truth(whole)[:, 0] == 1
    for fold in range(3):
        is_in = folds == fold
        before, after = (of.probs[is_in, 0] for of in (whole, scaled))
        assert roc_auc(is_positive[is_in], before) == roc_auc(is_positive[is_in], after)
