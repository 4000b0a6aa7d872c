"""`trainer.score_histogram`: a running AUC against the exact one."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records.label import LabelInfo
from trainer.metrics import roc_auc
from trainer.score_histogram import BINS, is_scored, score_histogram, streaming_auc

BINARY = LabelInfo(kind="binary", classes=("no", "yes"))
THREE = LabelInfo(kind="multiclass", classes=("a", "b", "c"), positive=("a", "c"))
RNG = np.random.default_rng(0)


def histogram(label, logits, targets, mask=None):
    mask = np.ones(len(logits)) if mask is None else mask
    tensors = (tf.constant(values) for values in (logits.astype(np.float32), targets, mask))
    return score_histogram(label, *tensors).numpy()


def test_the_auc_is_near_the_exact_one_for_common_and_for_rare_positives():
    for share in (0.5, 0.02):
        targets = (RNG.random(2000) < share).astype(np.int64)
        logits = RNG.normal(targets * 1.5 - 4, 1)[:, None]
        exact = roc_auc(targets == 1, logits[:, 0])
        found = streaming_auc(histogram(BINARY, logits, targets))
        assert found == pytest.approx(exact, abs=1e-3)


def test_several_positive_classes_score_by_their_summed_probability():
    targets = RNG.integers(0, 3, 500)
    logits = RNG.normal(size=(500, 3)) + np.eye(3)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    exact = roc_auc(targets != 1, probs[:, [0, 2]].sum(axis=1))
    for given in (targets, np.eye(3, dtype=np.float32)[targets]):
        found = streaming_auc(histogram(THREE, logits, given))
        assert found == pytest.approx(exact, abs=2e-3)


def test_unknown_and_masked_examples_and_nan_logits_are_not_counted():
    logits = np.array([[0.0], [1.0], [2.0], [np.nan], [np.inf], [-np.inf]])
    counts = histogram(
        BINARY, logits, np.array([1, -1, 0, 1, 1, 0]), np.array([1.0, 1, 0, 1, 1, 1])
    )
    np.testing.assert_array_equal(counts.sum(axis=1), [1, 2])
    assert counts[0, 0] == counts[1, BINS - 1] == 1
    unknown = np.array([-1, 0, 1, 2])
    assert histogram(THREE, np.zeros((4, 3)), unknown).sum() == 3


def test_histograms_add_up():
    targets = RNG.integers(0, 2, 300)
    logits = RNG.normal(targets, 1)[:, None]
    parts = [histogram(BINARY, logits[part::3], targets[part::3]) for part in range(3)]
    np.testing.assert_array_equal(sum(parts), histogram(BINARY, logits, targets))


def test_one_class_has_no_auc_and_equal_scores_one_of_a_half():
    logits = np.zeros((4, 1))
    assert np.isnan(streaming_auc(histogram(BINARY, logits, np.ones(4, np.int64))))
    assert streaming_auc(histogram(BINARY, logits, np.array([0, 0, 0, 1]))) == 0.5


def test_a_label_without_one_score_is_told():
    assert is_scored(BINARY)
    assert is_scored(THREE)
    assert not is_scored(LabelInfo(kind="multiclass", classes=("a", "b")))
    assert not is_scored(LabelInfo(kind="multilabel", classes=("a", "b")))
