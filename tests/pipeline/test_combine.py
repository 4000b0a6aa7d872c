"""`pipeline.combine`: the methods of an ensemble, on arrays."""

import numpy as np
import pytest

from pipeline.combine import METHODS


def test_the_mean_is_taken_element_by_element():
    combined = METHODS["mean"]([np.array([[0.0, 0.3]]), np.array([[1.0, 0.3]])])
    np.testing.assert_allclose(combined, [[0.5, 0.3]])


@pytest.mark.parametrize("name", METHODS)
def test_members_that_agree_are_kept_and_probabilities_stay_in_range(name):
    probs = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(METHODS[name]([probs, probs, probs]), probs)
    combined = METHODS[name]([probs, 1 - probs])
    assert combined.min() >= 0
    assert combined.max() <= 1
