"""`trainer.metrics`: figures against scikit-learn's."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score

from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.metrics import as_text, average_precision, evaluate, roc_auc

# Few distinct scores, so that most are tied.
tied = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=2, max_size=40
).filter(lambda rows: len({truth for truth, _ in rows}) == 2)


@given(tied)
def test_auc_and_average_precision_are_exact_with_ties(rows):
    truth, score = np.array([t for t, _ in rows]), np.array([s for _, s in rows])
    assert roc_auc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    expected = average_precision_score(truth, score)
    assert average_precision(truth, score) == pytest.approx(expected, abs=1e-12)


def test_figures_of_many_rows_equal_scikit_learns_and_scipys():
    rng = np.random.default_rng(0)
    truth, score = rng.random(5000) < 0.02, rng.normal(size=5000).astype(np.float32)
    assert roc_auc(truth, score) == pytest.approx(roc_auc_score(truth, score), rel=0, abs=1e-12)
    wins = mannwhitneyu(score[truth], score[~truth]).statistic
    expected = wins / (truth.sum() * (~truth).sum())
    assert roc_auc(truth, score) == pytest.approx(expected, rel=0, abs=1e-12)
    expected = average_precision_score(truth, score)
    assert average_precision(truth, score) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_one_class_has_no_auc_and_prints_as_such(truth):
    figure = roc_auc(np.array(truth, bool), np.zeros(len(truth)))
    assert np.isnan(figure)
    assert as_text(figure) == "n/a"


def test_unknown_targets_are_left_out():
    whole = toy_predictions(BINARY, rows=40)
    target = whole.frame["target"].where(whole.frame["row"] < 30, -1)
    known = whole.frame[whole.frame["row"] < 30]
    figures = evaluate(dataclasses.replace(whole, frame=whole.frame.assign(target=target)))
    assert figures["auc"] == pytest.approx(roc_auc_score(known["target"], known["prob_malignant"]))


def test_multiclass_scores_the_sum_over_positive_and_each_class_against_the_rest():
    predictions = toy_predictions(MULTICLASS, rows=60)
    target, probs = predictions.targets, predictions.probs
    figures = evaluate(predictions)
    expected = roc_auc_score(target > 0, probs[:, 1:].sum(axis=1))
    assert figures["auc"] == pytest.approx(expected, rel=0, abs=1e-12)
    each = [roc_auc_score(target == c, probs[:, c]) for c in range(3)]
    assert figures["macro_auc"] == pytest.approx(np.mean(each), rel=0, abs=1e-12)


def test_multilabel_is_the_mean_over_labels_that_have_both_values():
    predictions = toy_predictions(MULTILABEL, rows=60)
    targets, probs = predictions.targets, predictions.probs
    each = [roc_auc_score(targets[:, c], probs[:, c]) for c in range(2)]
    assert evaluate(predictions)["auc"] == pytest.approx(np.mean(each), rel=0, abs=1e-12)
    alone = [np.array([t[0], 0], np.float32) for t in predictions.frame["target"]]
    frame = predictions.frame.assign(target=alone)
    assert evaluate(dataclasses.replace(predictions, frame=frame))["auc"] == pytest.approx(each[0])
