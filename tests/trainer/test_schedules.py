"""`trainer.schedules`: the learning rate of each step."""

import numpy as np
import pytest

from trainer.schedules import SCHEDULES, ScheduleConfig, learning_rates


def rates(epochs=10, steps_per_epoch=20, **settings):
    return learning_rates(ScheduleConfig(**settings), 0.5, epochs, steps_per_epoch)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 3.0, 99.0])
def test_there_is_a_rate_above_0_up_to_the_peak_for_each_step_but_the_last(kind, warmup_epochs):
    table = rates(kind=kind, warmup_epochs=warmup_epochs)
    assert table.shape == (200,)
    assert table.max() == pytest.approx(0.5)
    assert table[:-1].min() > 0


def test_the_warm_up_is_linear_and_the_rest_half_a_cosine():
    table = rates(warmup_epochs=2.0, final_fraction=0.1)
    np.testing.assert_allclose(table[:40], 0.5 * np.arange(1, 41) / 40, rtol=1e-6)
    middle = (40 + 199) / 2
    assert np.interp(middle, np.arange(200), table) == pytest.approx(0.5 * 0.55, rel=1e-3)
    assert table[-1] == pytest.approx(0.05)
    assert (np.diff(table[40:]) < 0).all()


def test_constant_never_changes():
    np.testing.assert_array_equal(rates(kind="constant"), np.float32(0.5))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_of_one_step_an_epoch_has_finite_rates(epochs):
    assert np.isfinite(rates(epochs=epochs, steps_per_epoch=1)).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="final_fraction must be in"):
        ScheduleConfig(final_fraction=1.5)
    with pytest.raises(ValueError, match="warmup_epochs must be 0 or more and finite, got -1"):
        ScheduleConfig(warmup_epochs=-1)
