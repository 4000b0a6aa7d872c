"""`trainer.ensemble.honest`: what chose is never what is called the result."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import fbeta_score, roc_auc_score

from pipeline.errors import SettingsError
from predictions_factory import BINARY, MULTICLASS, toy_predictions
from trainer.ensemble.honest import Recipe, honest_table, judge
from trainer.ensemble.methods import METHODS

CHOOSING = [method for method in METHODS if method not in ("mean", "geometric")]
NAMES = ["m0", "m1", "m2", "m3"]


def toy_members(count=4, rows=240, label=BINARY):
    return [toy_predictions(label, rows, 3, seed) for seed in range(count)]


def with_frame(members, change):
    return [dataclasses.replace(m, frame=change(m.frame.copy())) for m in members]


def noise(seed, members=8, rows=1500, positives=300):
    """Members that know nothing at all of the target."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(rows) < positives).astype(int)
    tables = [toy_predictions(rows=rows, folds=5, seed=1000 * seed + m) for m in range(members)]
    return with_frame(tables, lambda frame: frame.assign(target=target))


@pytest.mark.parametrize("method", ["optimal", "greedy", "stacking", "weighted"])
def test_choosing_among_noise_climbs_and_the_nested_figure_stays_at_a_half(method):
    names = [f"m{place}" for place in range(8)]
    judged = [judge(noise(seed), names, Recipe(method=method)) for seed in range(8)]
    on_chosen = np.array([one.on_chosen for one in judged])
    nested = np.array([one.mean for one in judged])
    error = nested.std(ddof=1) / np.sqrt(len(nested))
    pooled = np.array([one.pooled for one in judged])
    assert on_chosen.min() > 0.51, on_chosen
    assert on_chosen.mean() > 0.525, on_chosen
    assert abs(nested.mean() - 0.5) < min(3 * error, 0.015), nested
    # Pooled it may fall short but not flatter: a fold of few positives is scored by weights that
    # were fitted where there were more, and so a little higher than the others (0.478 of stacking).
    assert 0.47 < pooled.mean() < 0.51, pooled


def test_the_more_noise_to_choose_from_the_higher_it_climbs():
    names = [f"m{place}" for place in range(8)]
    few, many = (
        np.mean(
            [
                judge(noise(seed)[:count], names[:count], Recipe(method="optimal")).on_chosen
                for seed in range(4)
            ]
        )
        for count in (2, 8)
    )
    assert many > few + 0.01


@pytest.mark.parametrize("metric", ["auc", "f2"])
@pytest.mark.parametrize("method", METHODS)
def test_a_fold_s_targets_do_not_move_its_own_scores(method, metric):
    recipe = Recipe(method=method, metric=metric, is_calibrated=True)
    members = toy_members()
    is_fold = (members[0].frame["fold"] == 1).to_numpy()

    def turned(frame):
        frame.loc[is_fold, "target"] = 1 - frame["target"][is_fold]
        return frame

    honest = judge(members, NAMES, recipe)
    other = judge(with_frame(members, turned), NAMES, recipe)
    np.testing.assert_array_equal(honest.probs[is_fold], other.probs[is_fold])
    assert honest.by_fold[1] == other.by_fold[1]
    assert honest.final != other.final


@pytest.mark.parametrize("method", CHOOSING)
def test_a_fold_s_scores_do_not_move_what_is_chosen_for_it(method):
    members = toy_members()
    is_fold = (members[0].frame["fold"] == 2).to_numpy()

    def turned(frame):
        frame.loc[is_fold, "prob_malignant"] = 1 - frame["prob_malignant"][is_fold]
        return frame

    recipe = Recipe(method=method)
    honest, other = (judge(m, NAMES, recipe) for m in (members, with_frame(members, turned)))
    assert honest.by_fold[2] == other.by_fold[2]


@pytest.mark.parametrize("method", ["mean", "geometric"])
def test_what_chooses_nothing_is_scored_on_all_rows(method):
    judged = judge(toy_members(), NAMES, Recipe(method=method))
    assert np.isnan(judged.on_chosen)
    assert judged.by_fold == {}
    members = toy_members()
    np.testing.assert_array_equal(
        judged.probs,
        judged.final.combine(dict(zip(NAMES, [m.probs for m in members], strict=True))),
    )


def test_the_figures_are_those_of_the_nested_scores():
    members = toy_members()
    judged = judge(members, NAMES, Recipe(method="greedy"))
    target, fold = members[0].targets, members[0].frame["fold"].to_numpy()
    score = judged.probs[:, 0].astype(np.float32)
    by_fold = [roc_auc_score(target[fold == k], score[fold == k]) for k in range(3)]
    np.testing.assert_allclose(list(judged.figures.values()), by_fold, atol=1e-12)
    np.testing.assert_allclose(judged.mean, np.mean(by_fold))
    np.testing.assert_allclose(judged.std, np.std(by_fold, ddof=1))
    np.testing.assert_allclose(judged.pooled, roc_auc_score(target, score), atol=1e-12)


def test_a_threshold_of_each_fold_is_that_of_the_others():
    members = toy_members()
    judged = judge(members, NAMES, Recipe(metric="f2"))
    target, fold = members[0].targets, members[0].frame["fold"].to_numpy()
    score = judged.probs[:, 0].astype(np.float32).astype(np.float64)
    taken = np.zeros(len(score), bool)
    for k in range(3):
        rest = fold != k
        best = max(
            np.unique(score[rest]),
            key=lambda t: fbeta_score(target[rest], score[rest] >= t, beta=2),
        )
        taken[~rest] = score[~rest] >= best
    np.testing.assert_allclose(judged.pooled, fbeta_score(target, taken, beta=2), atol=1e-9)
    assert judged.on_chosen >= judged.pooled


def given_parts(members):
    def change(frame):
        frame["part"] = np.where(frame["row"] % 2 == 0, "val", "holdout")
        return frame.assign(fold=-1, target=frame["row"] // 3 % 2)

    return with_frame(members, change)


def test_a_part_that_chooses_is_not_scored():
    members = given_parts(toy_members())
    judged = judge(members, NAMES, Recipe(method="optimal", select_on="val"))
    is_holdout = (members[0].frame["part"] == "holdout").to_numpy()
    np.testing.assert_array_equal(judged.is_unseen, is_holdout)
    wanted = roc_auc_score(
        members[0].targets[is_holdout], judged.probs[is_holdout, 0].astype(np.float32)
    )
    np.testing.assert_allclose(judged.pooled, wanted, atol=1e-12)


def test_given_parts_do_not_choose_unless_one_is_named():
    with pytest.raises(SettingsError, match=r"optimal by auc chooses, .* got 0; name"):
        judge(given_parts(toy_members()), NAMES, Recipe(method="optimal"))
    assert judge(given_parts(toy_members()), NAMES, Recipe()).pooled > 0


def test_an_unknown_part_names_the_nearest():
    with pytest.raises(SettingsError, match="unknown part 'vla'; did you mean 'val'"):
        judge(given_parts(toy_members()), NAMES, Recipe(method="rank", select_on="vla"))


def test_all_subsets_of_more_than_twenty_members_are_refused():
    with pytest.raises(SettingsError, match="20 members or fewer, got 21"):
        judge(toy_members(1) * 21, [str(n) for n in range(21)], Recipe(method="optimal"))


def test_given_weights_choose_nothing():
    judged = judge(toy_members(), NAMES, Recipe(method="weighted", weights=(1, 0, 3, 0)))
    assert np.isnan(judged.on_chosen)
    assert judged.final.members == ("m0", "m2")
    assert judged.final.weights == ((1.0,), (3.0,))


def test_the_table_calls_the_nested_figure_the_result():
    judged = judge(toy_members(label=MULTICLASS), NAMES, Recipe(method="greedy"))
    head, line, result = honest_table({"greedy of 4": judged}, "auc").splitlines()
    assert "on what chose it" in head
    assert f"{judged.on_chosen:.4f}" in line
    assert f"{judged.mean:.4f}" in line
    assert result.startswith(f"result: auc {judged.pooled:.4f}")
