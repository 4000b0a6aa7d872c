"""Uniform numbers by key: even, independent of one another, and the same on every machine."""

import numpy as np
from scipy import stats

from pipeline.stream.augment.draws import example_seeds, uniforms


def test_draws_are_uniform_and_unrelated():
    u = uniforms(example_seeds(7, np.arange(20_000)), 3)
    assert ((u >= 0) & (u < 1)).all()
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 0.03  # of neighbours in the epoch


def test_ops_with_neighbouring_seeds_draw_otherwise():
    first, second = (uniforms(example_seeds(seed, np.arange(5000)), 1)[:, 0] for seed in (7, 8))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_what_a_key_draws_depends_on_it_and_the_seed_alone():
    keys = np.array([3, 2**40, 0, 3])
    whole = uniforms(example_seeds(-5, keys), 4)
    np.testing.assert_array_equal(whole[0], whole[3])
    np.testing.assert_array_equal(whole[1:2], uniforms(example_seeds(-5, keys[1:2]), 4))
    np.testing.assert_array_equal(whole[:, :2], uniforms(example_seeds(-5, keys), 2))


def test_draws_are_those_of_every_machine_and_version():
    found = uniforms(example_seeds(42, np.array([0, 1])), 2)
    np.testing.assert_array_equal(found, PINNED)


PINNED = [[0.33437656621120193, 0.8362901824612591], [0.3869742762400409, 0.9213172250065323]]
