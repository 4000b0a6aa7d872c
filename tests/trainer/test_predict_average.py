"""The mean over views and folds, against formulas written out."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from trainer.prediction.average import Outputs, average

KINDS = {"binary": 1, "multiclass": 3, "multilabel": 3}


def outputs(kind, rows, views=4, seed=0):
    shape = (len(rows), views, KINDS[kind])
    logits = np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)
    return Outputs(rows=np.array(rows), logits=logits)


def activated(logits, kind):
    exact = logits.astype(np.float64)
    return (
        scipy.special.softmax(exact, axis=-1)
        if kind == "multiclass"
        else scipy.special.expit(exact)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_averaged_over_views_and_folds(kind):
    folds = [outputs(kind, range(5), seed=seed) for seed in range(3)]
    found = average(folds, kind, "prob")
    expected = np.mean([activated(fold.logits, kind) for fold in folds], axis=(0, 2))
    np.testing.assert_allclose(found.probs, expected, rtol=1e-12)
    np.testing.assert_allclose(activated(found.logits, kind), expected, rtol=1e-6)
    by_view = np.mean([activated(fold.logits, kind) for fold in folds], axis=0)
    np.testing.assert_allclose(found.view_probs, by_view, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_averaged_before_they_become_probabilities(kind):
    folds = [outputs(kind, range(5), seed=seed) for seed in range(2)]
    found = average(folds, kind, "logit")
    mean = np.mean([fold.logits.astype(np.float64) for fold in folds], axis=(0, 2))
    np.testing.assert_allclose(found.logits, mean, rtol=1e-12)
    np.testing.assert_allclose(found.probs, activated(mean, kind), rtol=1e-12)


def test_ranks_are_among_the_rows_of_the_same_fold_and_view():
    folds = [outputs("binary", range(6), seed=1), outputs("binary", range(6, 10), seed=2)]
    found = average(folds, "binary", "rank")
    expected = [
        np.mean(
            [
                (scipy.stats.rankdata(fold.logits[:, view, 0]) - 0.5) / len(fold.rows)
                for view in range(4)
            ],
            axis=0,
        )
        for fold in folds
    ]
    np.testing.assert_allclose(found.probs[:, 0], np.concatenate(expected), rtol=1e-12)


def test_ranks_of_several_classes_sum_to_one():
    found = average([outputs("multiclass", range(7))], "multiclass", "rank")
    np.testing.assert_allclose(found.probs.sum(axis=1), 1)


def test_rows_come_in_order_whichever_fold_they_are_of():
    first, second = outputs("binary", [1, 4, 5], seed=1), outputs("binary", [0, 2, 9], seed=2)
    found = average([first, second], "binary", "prob")
    assert found.rows.tolist() == [0, 1, 2, 4, 5, 9]
    np.testing.assert_allclose(found.probs[1], activated(first.logits, "binary")[0].mean(axis=0))
    np.testing.assert_allclose(found.probs[5], activated(second.logits, "binary")[2].mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_one_view_of_one_fold_keeps_its_logits_to_the_bit(kind):
    one = outputs(kind, range(5), views=1)
    extreme = Outputs(rows=one.rows, logits=one.logits * 20)  # whose probabilities reach 0 and 1
    found = average([extreme], kind, "prob")
    np.testing.assert_array_equal(found.logits, extreme.logits[:, 0])
    np.testing.assert_allclose(found.probs, activated(extreme.logits[:, 0], kind), atol=1e-12)
