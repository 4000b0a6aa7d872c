"""`trainer.intervals`: figures under weights, draws by group, and how often intervals are right."""

import dataclasses
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.intervals import (
    METRICS,
    Interval,
    Ranking,
    auc,
    average_precision,
    difference_intervals,
    draw_counts,
    intervals,
    sensitivity_at,
)
from trainer.metrics import evaluate


def random_rows(rows, *, distinct_scores, seed):
    rng = np.random.default_rng(seed)
    is_positive = rng.random(rows) < 0.3
    is_positive[:2] = True, False
    score = rng.integers(distinct_scores, size=rows) / distinct_scores + 0.3 * is_positive
    return is_positive, score, rng


def binary_predictions(target, score, group, fold=0):
    rows = len(target)
    whole = toy_predictions(BINARY, rows=rows)
    frame = whole.frame.assign(
        target=np.asarray(target, np.int64), prob_malignant=score, group=group, fold=fold
    )
    return dataclasses.replace(whole, frame=frame)


@pytest.mark.parametrize("distinct_scores", [3, 10**6], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(5))
def test_figures_under_weights_are_those_of_scikit_learn(distinct_scores, seed):
    is_positive, score, rng = random_rows(90, distinct_scores=distinct_scores, seed=seed)
    weights = rng.exponential(size=90) * rng.integers(0, 2, 90)
    curve = Ranking(is_positive, score, np.arange(90)).curve(weights)
    expected = roc_auc_score(is_positive, score, sample_weight=weights)
    assert auc(*curve) == pytest.approx(expected, abs=1e-9)
    expected = average_precision_score(is_positive, score, sample_weight=weights)
    assert average_precision(*curve) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("specificity", [0.0, 0.6, 0.9, 1.0])
def test_sensitivity_is_the_best_of_the_thresholds_that_are_specific_enough(specificity):
    is_positive, score, _ = random_rows(60, distinct_scores=8, seed=3)
    false_alarms, found, _ = roc_curve(is_positive, score, drop_intermediate=False)
    expected = found[1 - false_alarms >= specificity - 1e-12].max()
    curve = Ranking(is_positive, score, np.arange(60)).curve(np.ones(60))
    assert sensitivity_at(specificity)(*curve) == pytest.approx(expected)


def test_a_specificity_that_is_met_exactly_counts_as_met():
    # One negative of ten lies above the second positive: that threshold's specificity is 0.9.
    score = np.array([0.9, 0.8, 0.7, *np.linspace(0.1, 0.5, 9)])
    is_positive = np.array([True, False, True] + 9 * [False])
    curve = Ranking(is_positive, score, np.arange(12)).curve(np.ones(12))
    assert sensitivity_at(0.9)(*curve) == 1.0
    assert sensitivity_at(0.91)(*curve) == 0.5


def test_a_draw_takes_as_many_groups_as_there_are_some_of_them_again():
    counts = np.array(list(draw_counts(7, 300, seed=1)))
    assert set(counts.sum(axis=1)) == {7}
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.25)
    assert counts.max() > 2


def test_an_interval_does_not_depend_on_the_order_of_rows():
    is_positive, score, rng = random_rows(40, distinct_scores=9, seed=1)
    group = np.array([f"p{number % 7}" for number in range(40)])
    order = rng.permutation(40)
    one = binary_predictions(is_positive, score / 2, group)
    other = binary_predictions(is_positive[order], score[order] / 2, group[order])
    assert intervals(one, draws=20) == intervals(other, draws=20)


def brute_force(target, score, group, draws, seed):
    """Each draw's AUC and precision, of a table in which drawn rows are really repeated."""
    figures = []
    names, index = np.unique(group, return_inverse=True)
    for counts in draw_counts(len(names), draws, seed):
        rows = np.repeat(np.arange(len(target)), counts[index].astype(int))
        if len(set(target[rows])) == 2:
            both = target[rows], score[rows]
            figures.append((roc_auc_score(*both), average_precision_score(*both)))
    return np.array(figures)


@pytest.mark.parametrize("groups", [6, 40], ids=["groups of several", "groups of one"])
def test_an_interval_is_of_the_draws_of_rows_repeated_one_by_one(groups):
    is_positive, score, _ = random_rows(40, distinct_scores=9, seed=7)
    score /= 2
    group = np.array([f"p{number % groups}" for number in range(40)])
    found = intervals(binary_predictions(is_positive, score, group), draws=60, seed=5)
    expected = brute_force(is_positive.astype(int), score.astype(np.float32), group, 60, 5)
    for name, figures in zip(("AUC", "AP"), expected.T, strict=True):
        bounds = np.quantile(figures, [0.025, 0.975])
        np.testing.assert_allclose([found[name].low, found[name].high], bounds, atol=1e-12, rtol=0)
    assert found["AUC"].unit == ("row" if groups == 40 else "group")


def test_draws_of_one_class_are_skipped_and_counted():
    target = np.array([1, 1, 0, 0, 0, 0])
    group = np.array(["a", "a", "b", "b", "c", "c"])
    score = np.linspace(0.9, 0.1, 6)
    found = intervals(binary_predictions(target, score, group), draws=300, seed=0)["AUC"]
    lacking = sum(counts[0] in (0, 3) for counts in draw_counts(3, 300, seed=0))
    assert 0 < lacking == found.skipped
    assert found.draws == 300 - lacking
    assert (found.figure, found.low, found.high) == (1.0, 1.0, 1.0)
    assert f"{lacking} draws skipped" in found.text()


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_the_figure_is_that_of_every_other_report(label):
    predictions = toy_predictions(label, rows=60)
    expected = evaluate(predictions)
    found = intervals(predictions, draws=20)
    assert found["AUC"].figure == pytest.approx(expected["auc"], abs=1e-12)
    assert found["AP"].figure == pytest.approx(expected["average_precision"], abs=1e-12)
    assert found["AUC"].low <= found["AUC"].figure <= found["AUC"].high


def test_rows_without_a_target_change_nothing():
    is_positive, score, _ = random_rows(40, distinct_scores=9, seed=1)
    group = np.array([f"p{number % 8}" for number in range(40)])
    known = intervals(binary_predictions(is_positive, score / 2, group), draws=50)
    target = np.concatenate([is_positive.astype(int), -np.ones(5)])
    more = binary_predictions(
        target, np.append(score / 2, np.ones(5)), np.append(group, 5 * ["p99"])
    )
    assert intervals(more, draws=50) == known


def test_rows_of_one_class_have_no_figure():
    found = intervals(binary_predictions(np.ones(4), np.ones(4) / 2, list("aabb")), draws=10)
    assert math.isnan(found["AUC"].figure)
    assert found["AUC"].text() == "n/a"


def test_a_paired_difference_is_of_the_same_draws():
    is_positive, score, rng = random_rows(60, distinct_scores=50, seed=2)
    group = np.array([f"p{number % 12}" for number in range(60)])
    better = (score / 2).astype(np.float32)
    worse = (score / 2 + 0.2 * rng.random(60)).astype(np.float32)
    first, second = (binary_predictions(is_positive, s, group) for s in (better, worse))
    found = difference_intervals(first, second, draws=40, seed=9)["AUC"]
    target = is_positive.astype(int)
    each = [brute_force(target, s, group, 40, 9)[:, 0] for s in (better, worse)]
    bounds = np.quantile(each[0] - each[1], [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], bounds, atol=1e-12, rtol=0)
    own = [intervals(member, draws=40, seed=9)["AUC"].figure for member in (first, second)]
    assert found.figure == pytest.approx(own[0] - own[1])


def test_a_run_is_not_ahead_of_itself():
    predictions = toy_predictions(MULTICLASS, rows=40)
    for difference in difference_intervals(predictions, predictions, draws=30).values():
        assert (difference.figure, difference.low, difference.high) == (0, 0, 0)


def test_an_interval_reads_as_text():
    of_auc = Interval(
        figure=0.8479, low=0.8204, high=0.8731, level=0.95, draws=10, skipped=0, unit="group"
    )
    assert of_auc.text() == "0.848 (95 % 0.820–0.873 by group)"
    of_difference = dataclasses.replace(of_auc, figure=0.02, low=-0.01, high=0.05, unit="row")
    text = of_difference.text(is_difference=True)
    assert text == "+0.020 (95 % -0.010 to +0.050 by row)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws must be 1 or more, got 0"),
        ({"level": 1.0}, r"level must be in \(0, 1"),
    ],
)
def test_an_interval_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        intervals(toy_predictions(rows=8), **{"draws": 2, **settings})


def test_a_specificity_above_one_is_refused():
    with pytest.raises(ValueError, match=r"specificity must be in \[0, 1\], got 60"):
        sensitivity_at(60)


@pytest.mark.slow
def test_intervals_by_group_hold_the_truth_as_often_as_they_say_and_by_row_less_often():
    """60 patients of 6 alike images, half of them ill; score = 1.2 ill + patient + image noise.

    Patients' and images' deviations are 0.8 and 0.6, so the AUC is Φ(1.2 / √2); the sample's is
    unbiased, for no patient has images of both kinds.
    """
    rng = np.random.default_rng(0)
    true_auc = 0.5 * (1 + math.erf(1.2 / math.sqrt(2) / math.sqrt(2)))
    patient = np.repeat(np.arange(60), 6)
    names = {"group": patient.astype(str), "row": np.arange(360).astype(str)}
    hits = dict.fromkeys(names, 0)
    for _ in range(250):
        is_ill = patient < 30
        score = 1.2 * is_ill + rng.normal(0, 0.8, 60)[patient] + rng.normal(0, 0.6, 360)
        for unit, group in names.items():
            found = intervals(
                binary_predictions(is_ill, score, group), {"AUC": METRICS["AUC"]}, draws=200
            )["AUC"]
            hits[unit] += found.low <= true_auc <= found.high
    assert 0.90 <= hits["group"] / 250 <= 0.98, hits
    assert hits["row"] / 250 < 0.75, hits
