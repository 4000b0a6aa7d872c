"""`trainer.delong`: the variance against its definition, pair by pair, and against simulation."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from trainer.delong import delong, delong_interval, mid_ranks


def rows(count, *, distinct_scores, seed, models=2):
    rng = np.random.default_rng(seed)
    is_positive = rng.random(count) < 0.3
    is_positive[:4] = True, True, False, False
    scores = rng.integers(distinct_scores, size=(models, count)) / distinct_scores
    return is_positive, scores + 0.2 * is_positive


def brute_force(is_positive, scores):
    """The covariance as the paper defines it, from every pair of a positive and a negative."""
    positives, negatives = scores[:, is_positive], scores[:, ~is_positive]
    wins = (positives[:, :, None] > negatives[:, None, :]) * 1.0
    wins += (positives[:, :, None] == negatives[:, None, :]) * 0.5
    of_positives, of_negatives = wins.mean(axis=2), wins.mean(axis=1)
    aucs = wins.mean(axis=(1, 2))
    covariance = np.zeros((len(scores),) * 2)
    for values in (of_positives, of_negatives):
        off = values - aucs[:, None]
        covariance += off @ off.T / (values.shape[1] - 1) / values.shape[1]
    return aucs, covariance


@pytest.mark.parametrize("distinct_scores", [4, 10**6], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(4))
def test_the_covariance_is_that_of_all_pairs(distinct_scores, seed):
    is_positive, scores = rows(70, distinct_scores=distinct_scores, seed=seed, models=3)
    aucs, covariance = delong(is_positive, scores)
    expected_aucs, expected = brute_force(is_positive, scores)
    np.testing.assert_allclose(aucs, expected_aucs, atol=1e-12)
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
    np.testing.assert_allclose(aucs, [roc_auc_score(is_positive, row) for row in scores])


def test_tied_values_share_their_mean_rank():
    values = np.random.default_rng(0).integers(5, size=40).astype(float)
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    # Normal scores one deviation apart: the AUC is Phi(1 / sqrt 2).
    rng, held, is_positive = np.random.default_rng(3), 0, np.arange(150) < 50
    for _ in range(400):
        low, high = delong_interval(is_positive, rng.normal(size=150) + is_positive)
        held += low <= 0.76025 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_a_single_positive_has_no_variance():
    assert np.isnan(delong_interval(np.array([True, False, False]), np.arange(3.0))).all()
