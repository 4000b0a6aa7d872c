"""Several models' probabilities as one."""

import numpy as np
import pytest

from pipeline.combine import Ensemble, EnsembleError
from pipeline.records.label import LabelInfo
from pipeline.scoring.average import average, check_ensemble

MULTICLASS = LabelInfo(kind="multiclass", classes=("a", "b", "c"))


def outputs(*counts):
    """Random (logits, probs) of 5 rows and 3 classes: a member with so many models each."""
    rng = np.random.default_rng(0)
    made = {}
    for member, count in enumerate(counts):
        logits = rng.normal(size=(count, 5, 3))
        powers = np.exp(logits)
        probs = powers / powers.sum(axis=2, keepdims=True)
        made[f"m{member}"] = list(zip(logits, probs, strict=True))
    return made


def test_a_single_model_keeps_its_logits():
    given = outputs(1)
    logits, probs = average(given, MULTICLASS, None)
    np.testing.assert_array_equal(logits, given["m0"][0][0])
    np.testing.assert_array_equal(probs, given["m0"][0][1])


def test_members_count_alike_however_many_folds_they_have():
    given = outputs(1, 3)
    logits, probs = average(given, MULTICLASS, None)
    of_folds = np.mean([p for _, p in given["m1"]], axis=0)
    np.testing.assert_allclose(probs, (given["m0"][0][1] + of_folds) / 2, rtol=1e-12)
    powers = np.exp(logits)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), probs, rtol=1e-6)


def test_an_ensemble_is_given_the_mean_of_each_members_folds():
    given = outputs(2, 1)
    ensemble = Ensemble(
        method="weighted", kind="multiclass", classes=("a", "b", "c"), members=("m1", "m0"),
        scale="prob", weights=((1.0,) * 3, (3.0,) * 3),
    )  # fmt: skip
    _, probs = average(given, MULTICLASS, ensemble)
    of_folds = (given["m0"][0][1] + given["m0"][1][1]) / 2
    np.testing.assert_allclose(probs, (given["m1"][0][1] + 3 * of_folds) / 4, rtol=1e-12)
    check_ensemble(ensemble, MULTICLASS, "e.json")
    other = LabelInfo(kind="multiclass", classes=("c", "b", "a"))
    with pytest.raises(EnsembleError, match=r"multiclass of c, b, a, got multiclass of a, b, c"):
        check_ensemble(ensemble, other, "e.json")
