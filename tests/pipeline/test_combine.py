"""`pipeline.combine`: an ensemble as plain numbers, applied to arrays."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from scipy.stats import rankdata

from pipeline.combine import (
    REFERENCE_POINTS,
    Ensemble,
    EnsembleError,
    ensemble_from_json,
    ensemble_to_json,
    inverse_logits,
    logits_of,
    rank_reference,
    read_ensemble,
)
from pipeline.errors import SettingsError

SCALES = ("prob", "log_odds", "rank")
KINDS = ("binary", "multiclass", "multilabel")


def toy_probs(kind="binary", rows=50, seed=0):
    values = np.random.default_rng(seed).normal(size=(rows, 1 if kind == "binary" else 3))
    return softmax(values, axis=1) if kind == "multiclass" else expit(values)


def toy_ensemble(scale="prob", kind="binary", weights=(1.0, 1.0), probs=None, **changes):
    outputs = 1 if kind == "binary" else 3
    reference = rank_reference(toy_probs(kind) if probs is None else probs)
    total = sum(weights) if scale == "log_odds" else 1
    return Ensemble(
        **{
            "method": "mean",
            "kind": kind,
            "classes": ("a", "b", "c")[:outputs],
            "members": tuple(f"m{place}" for place in range(len(weights))),
            "scale": scale,
            "weights": tuple((weight / total,) * outputs for weight in weights),
            "offset": (0.0,) * outputs if scale == "log_odds" else (),
            "references": (reference,) * len(weights) if scale == "rank" else (),
            **changes,
        }
    )


def test_probabilities_are_averaged_by_weight():
    members = {"m0": np.array([[0.0], [0.3]]), "m1": np.array([[1.0], [0.3]])}
    combined = toy_ensemble(weights=(1.0, 3.0)).combine(members)
    np.testing.assert_allclose(combined, [[0.75], [0.3]])


def test_log_odds_give_the_geometric_mean_of_odds():
    first, second = toy_probs(seed=1), toy_probs(seed=2)
    combined = toy_ensemble("log_odds").combine({"m0": first, "m1": second})
    odds = np.sqrt(first / (1 - first) * second / (1 - second))
    np.testing.assert_allclose(combined, odds / (1 + odds), rtol=1e-12)


def test_log_odds_of_classes_give_their_geometric_mean_scaled_to_one():
    first, second = toy_probs("multiclass", seed=1), toy_probs("multiclass", seed=2)
    combined = toy_ensemble("log_odds", "multiclass").combine({"m0": first, "m1": second})
    geometric = np.sqrt(first * second)
    np.testing.assert_allclose(combined, geometric / geometric.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES[:2])
def test_members_that_agree_are_kept(scale, kind):
    probs = toy_probs(kind)
    combined = toy_ensemble(scale, kind).combine({"m0": probs, "m1": probs})
    np.testing.assert_allclose(combined, probs, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
def test_certain_members_stay_in_range(scale, kind):
    probs = np.eye(3)[:, : 1 if kind == "binary" else 3]
    combined = toy_ensemble(scale, kind).combine({"m0": probs, "m1": probs[::-1]})
    assert np.isfinite(combined).all()
    assert 0 <= combined.min() <= combined.max() <= 1


def test_a_rank_is_the_mean_rank_of_ties_over_the_rows():
    probs = np.array([[0.2], [0.7], [0.2], [0.9], [0.4]])
    ensemble = toy_ensemble("rank", weights=(1.0,), probs=probs)
    ranks = (rankdata(probs[:, 0]) - 0.5) / len(probs)
    np.testing.assert_allclose(ensemble.combine({"m0": probs})[:, 0], ranks, rtol=1e-12)


def test_a_thinned_rank_reference_keeps_the_order_and_all_but_the_last_of_the_rank():
    probs = toy_probs(rows=3 * REFERENCE_POINTS)
    ensemble = toy_ensemble("rank", weights=(1.0,), probs=probs)
    assert len(ensemble.references[0][0][0]) == REFERENCE_POINTS + 2
    ranks = ensemble.combine({"m0": probs})[:, 0]
    assert (np.argsort(ranks) == np.argsort(probs[:, 0])).all()
    exact = (rankdata(probs[:, 0]) - 0.5) / len(probs)
    np.testing.assert_allclose(ranks, exact, atol=1 / REFERENCE_POINTS)


def test_scores_beyond_the_reference_still_differ():
    ensemble = toy_ensemble("rank", weights=(1.0,), probs=np.array([[0.4], [0.6]]))
    ranks = ensemble.combine({"m0": np.array([[0.1], [0.3], [0.7], [0.9]])})[:, 0]
    assert (np.diff(ranks) > 0).all()


def test_a_temperature_divides_the_logits():
    probs = toy_probs()
    cool = toy_ensemble(temperature=2.5).combine({"m0": probs, "m1": probs})
    np.testing.assert_allclose(cool, expit(logit(probs) / 2.5), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", SCALES)
def test_json_gives_the_same_scores_bit_for_bit(scale, kind):
    ensemble = toy_ensemble(
        scale, kind, weights=(1 / 3, 0.1 + 0.2), temperature=np.pi / 3, thresholds=(0.1 + 0.7,)
    )
    again = ensemble_from_json(ensemble_to_json(ensemble, {"metric": "auc"}), "e.json")
    assert again == ensemble
    members = {"m0": toy_probs(kind, seed=3), "m1": toy_probs(kind, seed=4)}
    np.testing.assert_array_equal(again.combine(members), ensemble.combine(members))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_give_the_probabilities_back(kind):
    probs = toy_probs(kind)
    np.testing.assert_allclose(inverse_logits(logits_of(probs, kind), kind), probs, rtol=1e-9)
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]]), kind)).all()


def test_a_member_that_is_not_given_is_named():
    with pytest.raises(EnsembleError, match="members must include m1, got m0"):
        toy_ensemble().combine({"m0": toy_probs()})


def changed(**changes):
    return json.dumps({**json.loads(ensemble_to_json(toy_ensemble(), {})), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "e.json: not JSON"),
        ("[]", "schema_version must be 1, got None"),
        (changed(schema_version=2), "schema_version must be 1, got 2"),
        (changed(wieghts=[]), "e.json: .*'wieghts'"),
        (json.dumps({"schema_version": 1}), "e.json: .*missing"),
        (changed(scale="odds"), "e.json: scale must be prob, log_odds or rank, got 'odds'"),
        (changed(weights=[[1.0]]), "e.json: weights must be 2 x 1 finite numbers"),
        (changed(weights=[["x"], [1.0]]), "e.json: weights must be 2 x 1 finite numbers"),
        (changed(temperature=0.0), "e.json: temperature must be above 0, got 0.0"),
    ],
)
def test_a_damaged_file_is_refused_by_name(text, message):
    with pytest.raises(EnsembleError, match=message):
        ensemble_from_json(text, "e.json")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SettingsError, match="no such file; give what"):
        read_ensemble(str(tmp_path / "e.json"))


def test_an_ensemble_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy_ensemble().temperature = 2.0
