"""`trainer.ensemble.scoring`: each metric against scikit-learn, by any folds, ties included."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    fbeta_score,
    roc_auc_score,
    roc_curve,
)

from pipeline.errors import SettingsError
from pipeline.predictions import PredictionsError
from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.ensemble.scoring import Scorer, metric_named
from trainer.metrics import truth

ROWS, FOLDS = 300, 3
NO_POSITIVE = dataclasses.replace(MULTICLASS, positive=())


def sensitivity_at(truths, score, specificity=0.9):
    alarms, found, _ = roc_curve(truths, score, drop_intermediate=False)
    return found[alarms <= 1 - specificity + 1e-9].max()


RANKINGS = {
    "auc": roc_auc_score,
    "average_precision": average_precision_score,
    "sensitivity@0.9": sensitivity_at,
}
DECISIONS = {
    "f1_macro": lambda truths, taken: f1_score(truths, taken, average="macro"),
    "f2": lambda truths, taken: fbeta_score(truths, taken, beta=2),
    "balanced_accuracy": balanced_accuracy_score,
}
TIES = (6, 1)  # decimals that leave hardly any, and many


def example(label, decimals, seed=0):
    predictions = toy_predictions(label, ROWS, FOLDS, seed)
    probs = predictions.probs.round(decimals)
    return predictions, probs


def scorer_of(predictions, name, aggregate=None):
    metric = metric_named(name, predictions.label.kind)
    return Scorer(predictions, np.ones(len(predictions.frame), bool), metric, aggregate)


def kept_rows(predictions):
    """All rows, then all without each fold: as `Scorer.chosen_by` lists them."""
    fold = predictions.frame["fold"].to_numpy()
    return [np.ones(len(fold), bool), *(fold != place for place in range(FOLDS))]


@pytest.mark.parametrize("decimals", TIES)
@pytest.mark.parametrize("name", RANKINGS)
def test_a_binary_ranking_is_that_of_scikit_learn_with_and_without_each_fold(name, decimals):
    predictions, probs = example(BINARY, decimals)
    scorer = scorer_of(predictions, name)
    score = probs[:, 0]
    wanted = [RANKINGS[name](predictions.targets[k], score[k]) for k in kept_rows(predictions)]
    scores = scorer.scores(probs)
    np.testing.assert_allclose(scorer.chosen_by(scores), wanted, rtol=0, atol=1e-12)
    by_fold = [
        RANKINGS[name](predictions.targets[~kept], score[~kept])
        for kept in kept_rows(predictions)[1:]
    ]
    figures = [scorer.figure(scores, fold=place) for place in range(FOLDS)]
    np.testing.assert_allclose(figures, by_fold, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decimals", TIES)
@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_takes_the_best_of_all_thresholds(name, decimals):
    predictions, probs = example(BINARY, decimals)
    scorer, score = scorer_of(predictions, name), probs[:, 0]
    scores = scorer.scores(probs)
    for place, kept in enumerate(kept_rows(predictions)):
        truths, of_kept = predictions.targets[kept], score[kept]
        every = [DECISIONS[name](truths, of_kept >= value) for value in np.unique(of_kept)]
        np.testing.assert_allclose(scorer.chosen_by(scores)[place], max(every), atol=1e-9)
        threshold = scorer.thresholds(scores, None if place == 0 else place - 1)
        at_it = DECISIONS[name](truths, of_kept >= threshold[0])
        np.testing.assert_allclose(at_it, max(every), atol=1e-9)


@pytest.mark.parametrize("name", DECISIONS)
def test_each_fold_is_decided_by_its_own_threshold(name):
    predictions, probs = example(BINARY, 6)
    scorer = scorer_of(predictions, name)
    thresholds = np.array([[0.3, 0.5, 0.7]])
    fold = predictions.frame["fold"].to_numpy()
    taken = probs[:, 0] >= thresholds[0][fold]
    scores = scorer.scores(probs)
    pooled = DECISIONS[name](predictions.targets, taken)
    np.testing.assert_allclose(scorer.figure(scores, thresholds), pooled, atol=1e-9)
    one = DECISIONS[name](predictions.targets[fold == 1], taken[fold == 1])
    np.testing.assert_allclose(scorer.figure(scores, thresholds, 1), one, atol=1e-9)


@pytest.mark.parametrize("name", RANKINGS)
def test_the_score_of_several_classes_is_the_sum_over_the_positive_ones(name):
    predictions, probs = example(MULTICLASS, 6)
    is_positive, score = predictions.targets > 0, probs[:, 1] + probs[:, 2]
    scorer = scorer_of(predictions, name)
    figure = scorer.figure(scorer.scores(probs))
    np.testing.assert_allclose(figure, RANKINGS[name](is_positive, score), atol=1e-12)


@pytest.mark.parametrize("label", [NO_POSITIVE, MULTILABEL], ids=lambda label: label.kind)
@pytest.mark.parametrize("name", RANKINGS)
def test_without_a_single_score_a_ranking_is_the_mean_over_classes(name, label):
    predictions, probs = example(label, 2)
    scorer = scorer_of(predictions, name)
    by_class = [
        RANKINGS[name](column, probs[:, place]) for place, column in enumerate(truth(predictions).T)
    ]
    scores = scorer.scores(probs)
    np.testing.assert_allclose(scorer.figure(scores), np.mean(by_class), atol=1e-12)
    np.testing.assert_allclose(scorer.chosen_by(scores)[0], np.mean(by_class), atol=1e-12)


@pytest.mark.parametrize("label", [MULTICLASS, NO_POSITIVE], ids=["positive", "none"])
@pytest.mark.parametrize("name", ["f1_macro", "balanced_accuracy"])
def test_several_classes_are_decided_by_the_highest_score(name, label):
    predictions, probs = example(label, 6)
    scorer = scorer_of(predictions, name)
    scores = scorer.scores(probs)
    assert scorer.thresholds(scores, None) == ()
    wanted = [
        DECISIONS[name](predictions.targets[k], probs.argmax(axis=1)[k])
        for k in kept_rows(predictions)
    ]
    np.testing.assert_allclose(scorer.chosen_by(scores), wanted, atol=1e-9)
    np.testing.assert_allclose(scorer.figure(scores), wanted[0], atol=1e-9)


def test_each_label_of_several_has_its_own_threshold():
    predictions, probs = example(MULTILABEL, 6)
    scorer = scorer_of(predictions, "f1_macro")
    scores, truths = scorer.scores(probs), truth(predictions)
    thresholds = np.array(scorer.thresholds(scores, None))
    figure = scorer.figure(scores, np.repeat(thresholds[:, None], FOLDS, axis=1))
    wanted = f1_score(truths, probs >= thresholds, average="macro")
    np.testing.assert_allclose(figure, wanted, atol=1e-9)
    np.testing.assert_allclose(scorer.chosen_by(scores)[0], wanted, atol=1e-9)


@pytest.mark.parametrize(("aggregate", "how"), [("group:mean", "mean"), ("group:max", "max")])
def test_groups_are_scored_as_one(aggregate, how):
    predictions, probs = example(BINARY, 6)
    frame = predictions.frame.assign(score=probs[:, 0]).sample(frac=1, random_state=0)
    frame.loc[frame["row"] % 4 < 2, "target"] = 0  # half of the groups have no positive
    predictions = dataclasses.replace(predictions, frame=frame)
    groups = frame.groupby("group").agg({"target": "max", "score": how})
    scorer = scorer_of(predictions, "auc", aggregate)
    figure = scorer.figure(scorer.scores(frame["score"].to_numpy()[:, None]))
    np.testing.assert_allclose(figure, roc_auc_score(groups["target"], groups["score"]))


def test_rows_without_a_known_target_are_left_out():
    predictions, probs = example(BINARY, 6)
    frame = predictions.frame.copy()
    frame.loc[frame["row"] % 5 == 0, "target"] = -1
    scorer = scorer_of(dataclasses.replace(predictions, frame=frame), "auc")
    known = (frame["target"] >= 0).to_numpy()
    wanted = roc_auc_score(frame["target"][known], probs[known, 0])
    np.testing.assert_allclose(scorer.figure(scorer.scores(probs)), wanted, atol=1e-12)


@pytest.mark.parametrize("name", ["auc", "average_precision", "f2"])
def test_a_figure_that_one_class_cannot_have_is_nan(name):
    predictions, probs = example(BINARY, 6)
    frame = predictions.frame.assign(target=0)
    scorer = scorer_of(dataclasses.replace(predictions, frame=frame), name)
    assert np.isnan(scorer.chosen_by(scorer.scores(probs))).all()


def test_a_group_in_two_folds_is_refused():
    predictions, _ = example(BINARY, 6)
    frame = predictions.frame.assign(fold=predictions.frame["row"] % FOLDS)
    with pytest.raises(PredictionsError, match="a group must be in one fold, got 150 groups"):
        scorer_of(dataclasses.replace(predictions, frame=frame), "auc", "group:mean")


def test_a_group_of_two_classes_is_refused_where_one_is_decided():
    predictions, _ = example(MULTICLASS, 6)
    with pytest.raises(PredictionsError, match="each group must have one class for f1_macro"):
        scorer_of(predictions, "f1_macro", "group:mean")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acu", "unknown metric 'acu'; did you mean 'auc'"),
        ("sensitivity@9", r"must be in \[0, 1\], got 'sensitivity@9'"),
        ("sensitivity@high", r"must be in \[0, 1\], got 'sensitivity@high'"),
    ],
)
def test_an_unknown_metric_is_refused(name, message):
    with pytest.raises(SettingsError, match=message):
        metric_named(name, "binary")
