"""`trainer.ensemble.methods` and `subsets`: choices against brute force and other libraries."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import zscore
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.ensemble.methods import METHODS, Choice, ChoiceError, fit
from trainer.ensemble.scoring import Scorer, metric_named
from trainer.ensemble.subsets import best_subset, figures_of_subsets
from trainer.metrics import truth

ROWS, FOLDS = 240, 3


def choice_of(members, metric="auc", rows=None, without=None, **changes):
    first = members[0]
    is_in = np.ones(len(first.frame), bool) if rows is None else rows
    scorer = Scorer(first, np.ones(len(first.frame), bool), metric_named(metric, first.label.kind))
    probs = [member.probs for member in members]
    return Choice(
        label=first.label,
        members=probs,
        truths=truth(first),
        is_in=is_in,
        scorer=scorer,
        without=without,
        subsets=figures_of_subsets(probs, scorer),
        **changes,
    )


def telling_members(count, seed=0, rows=ROWS, noise=1.5):
    """Binary members that know something of the target, each another part of it."""
    rng = np.random.default_rng(seed)
    members = []
    for _ in range(count):
        member = toy_predictions(rows=rows, folds=FOLDS)
        logits = member.targets * 1.0 + noise * rng.normal(size=rows) - 1
        frame = member.frame.assign(
            logit_malignant=logits.astype(np.float32),
            prob_malignant=expit(logits).astype(np.float32),
        )
        members.append(dataclasses.replace(member, frame=frame))
    return members


def names_of(members):
    return [f"m{place}" for place in range(len(members))]


@settings(deadline=None, max_examples=30)
@given(
    members=st.integers(1, 4),
    decimals=st.sampled_from([1, 8]),
    seed=st.integers(0, 1000),
    without=st.sampled_from([None, 0, 2]),
)
def test_optimal_is_the_best_of_all_subsets_by_scikit_learn(members, decimals, seed, without):
    tables = [toy_predictions(rows=40, folds=FOLDS, seed=seed + m) for m in range(members)]
    probs = [table.probs.round(decimals) for table in tables]
    first = tables[0]
    kept = first.frame["fold"].to_numpy() != (-1 if without is None else without)
    scorer = Scorer(first, np.ones(40, bool), metric_named("auc", "binary"))
    figures = figures_of_subsets(probs, scorer)[:, 0 if without is None else 1 + without]
    brute = {}
    for size in range(1, members + 1):
        for places in itertools.combinations(range(members), size):
            score = sum(probs[place][:, 0] for place in places)
            brute[places] = roc_auc_score(first.targets[kept], score[kept])
            mask = sum(1 << place for place in places)
            assert abs(figures[mask] - brute[places]) <= 1e-12
    best = best_subset(figures)
    assert brute[best] >= max(brute.values()) - 1e-12


@pytest.mark.parametrize("label", [MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
@pytest.mark.parametrize("metric", ["average_precision", "f1_macro"])
def test_a_subset_has_the_figure_of_its_mean_for_any_label(metric, label):
    members = [toy_predictions(label, ROWS, FOLDS, seed) for seed in range(3)]
    choice = choice_of(members, metric)
    mean = np.mean([members[0].probs, members[2].probs], axis=0)
    wanted = choice.scorer.chosen_by(choice.scorer.scores(mean))
    np.testing.assert_allclose(choice.subsets[0b101], wanted, rtol=1e-9)


def test_subsets_do_not_depend_on_threads():
    members = [toy_predictions(rows=60, seed=seed) for seed in range(7)]
    scorer = Scorer(members[0], np.ones(60, bool), metric_named("auc", "binary"))
    probs = [member.probs for member in members]
    alone, beside = (figures_of_subsets(probs, scorer, threads) for threads in (1, 3))
    np.testing.assert_array_equal(alone, beside)
    assert not np.isnan(alone[1:]).any()


def test_of_equal_subsets_the_smallest_and_first_is_taken():
    assert best_subset(np.array([np.nan, 0.5, 0.7, 0.7, 0.7, 0.6, 0.7, 0.1])) == (1,)


def test_equal_sums_stay_ties():
    probs = np.array([[0.1], [0.2], [0.3], [0.4]])
    first = toy_predictions(rows=4, folds=1)
    scorer = Scorer(first, np.ones(4, bool), metric_named("auc", "binary"))
    figures = figures_of_subsets([probs, probs[::-1].copy()] * 2, scorer)
    assert figures[0b1111, 0] == 0.5


@pytest.mark.parametrize("method", ["optimal", "greedy", "weighted"])
def test_a_search_leaves_noise_out_and_is_no_worse_than_the_mean(method):
    members = [*telling_members(3, rows=600), toy_predictions(rows=600, folds=FOLDS, seed=9)]
    choice = choice_of(members)
    ensemble = fit(method, choice, names_of(members))
    weights = np.zeros(4)
    for name, weight in zip(ensemble.members, ensemble.weights, strict=True):
        weights[int(name[1:])] = weight[0]
    assert weights[3] < weights[:3].max() / 2
    assert choice.figure(weights) > choice.figure(np.ones(4))


def test_greedy_takes_a_member_again_if_that_helps():
    good, fair = telling_members(1, noise=0.8)[0], telling_members(1, seed=1, noise=2.0)[0]
    choice = choice_of([good, fair])
    ensemble = fit("greedy", choice, ["good", "fair"])
    weights = dict(zip(ensemble.members, ensemble.weights, strict=True))
    assert weights["good"][0] > weights["fair"][0] >= 1
    taken_once = [choice.figure(np.array(once)) for once in ([1.0, 0.0], [1.0, 1.0])]
    assert choice.figure(np.array([weights["good"][0], weights["fair"][0]])) > max(taken_once)


def test_zscores_are_averaged_in_log_odds():
    members = telling_members(3)
    ensemble = fit("zscore", choice_of(members), names_of(members))
    by_name = dict(zip(names_of(members), [m.probs for m in members], strict=True))
    wanted = np.mean([zscore(logit(member.probs[:, 0])) for member in members], axis=0)
    np.testing.assert_allclose(logit(ensemble.combine(by_name)[:, 0]), wanted, rtol=1e-6)


def test_a_constant_member_has_no_zscore():
    members = telling_members(2)
    members[1].frame["prob_malignant"] = np.float32(0.3)
    ensemble = fit("zscore", choice_of(members), names_of(members))
    assert ensemble.members == ("m0",)


def test_stacking_nears_plain_logistic_regression_where_rows_are_many():
    members = telling_members(2, rows=6000)
    ensemble = fit("stacking", choice_of(members), names_of(members))
    logits = np.stack([logit(member.probs[:, 0]) for member in members], axis=1)
    plain = LogisticRegression(C=np.inf).fit(logits, members[0].targets)
    np.testing.assert_allclose(np.ravel(ensemble.weights), plain.coef_[0], rtol=0.02)
    np.testing.assert_allclose(ensemble.offset, plain.intercept_, rtol=0.02)


@pytest.mark.parametrize("label", [MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_stacking_lowers_the_log_loss_of_the_mean(label):
    members = [toy_predictions(label, ROWS, FOLDS, seed) for seed in range(2)]
    choice = choice_of(members)
    losses = []
    for method in ("mean", "stacking"):
        probs = fit(method, choice, names_of(members)).combine(
            dict(zip(names_of(members), choice.members, strict=True))
        )
        of_truth = np.where(choice.truths == 1, probs, 1 - probs)
        is_scored = (choice.truths == 1) | (label.kind == "multilabel")
        losses.append(-np.log(of_truth[is_scored]).mean())
    assert losses[1] < losses[0] - 0.05


def test_a_temperature_mends_too_bold_a_member():
    bold = telling_members(1, rows=3000)[0]
    true = np.random.default_rng(5).normal(size=3000)
    target = (np.random.default_rng(6).random(3000) < expit(true)).astype(int)
    frame = bold.frame.assign(target=target, prob_malignant=expit(3 * true).astype(np.float32))
    choice = choice_of([dataclasses.replace(bold, frame=frame)])
    ensemble = fit("mean", choice, ["bold"], is_calibrated=True)
    assert abs(ensemble.temperature - 3) < 0.35


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_every_method_gives_finite_scores_of_every_label(method, label):
    members = [toy_predictions(label, ROWS, FOLDS, seed) for seed in range(3)]
    choice = choice_of(members)
    by_name = dict(zip(names_of(members), choice.members, strict=True))
    combined = fit(method, choice, names_of(members)).combine(by_name)
    assert combined.shape == members[0].probs.shape
    assert np.isfinite(combined).all()
    assert 0 <= combined.min() <= combined.max() <= 1


@pytest.mark.parametrize("method", ["optimal", "greedy", "weighted", "stacking"])
def test_rows_of_one_class_cannot_choose(method):
    member = toy_predictions(rows=ROWS)
    member.frame["target"] = 0
    with pytest.raises(ChoiceError, match="must have positives and negatives for auc, got 240"):
        fit(method, choice_of([member]), ["m0"])
