"""`trainer.schedules`: the learning rate of each step, and the falls on a plateau."""

import json
import math

import numpy as np
import pytest

from trainer.schedules import SCHEDULES, Plateau, ScheduleConfig, learning_rates

NEEDED = {"step": {"milestones": (4.0, 6.5)}}  # what has no default


def rates(epochs=10, steps_per_epoch=20, peak=0.5, **settings):
    return learning_rates(ScheduleConfig(**settings), peak, epochs, steps_per_epoch)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_there_is_a_rate_above_0_up_to_the_peak_for_each_step_but_the_last(kind):
    table = rates(kind=kind, **NEEDED.get(kind, {}))
    assert table.shape == (200,)
    assert table.dtype == np.float32
    assert table.max() == pytest.approx(0.5)
    assert table[:-1].min() > 0


@pytest.mark.parametrize("kind", [k for k in SCHEDULES if "warmup_epochs" in SCHEDULES[k].settings])
@pytest.mark.parametrize("warmup_epochs", [0.0, 0.5, 3.0, 99.0])
def test_a_warm_up_rises_linearly_to_the_peak_or_as_far_as_the_run_goes(kind, warmup_epochs):
    table = rates(kind=kind, warmup_epochs=warmup_epochs, **NEEDED.get(kind, {}))
    # The cosine, which must end with the run, squeezes its warm-up into it; the others are cut.
    length = min(warmup_epochs, 10) if kind == "warmup_cosine" else warmup_epochs
    steps = int(length * 20)
    by_hand = 0.5 * np.arange(1, steps + 1) / max(steps, 1)
    np.testing.assert_allclose(table[:steps], by_hand[:200], rtol=1e-6)


def test_the_warm_up_is_linear_and_the_rest_half_a_cosine():
    table = rates(warmup_epochs=2.0, final_fraction=0.1)
    np.testing.assert_allclose(table[:40], 0.5 * np.arange(1, 41) / 40, rtol=1e-6)
    middle = (40 + 199) / 2
    assert np.interp(middle, np.arange(200), table) == pytest.approx(0.5 * 0.55, rel=1e-3)
    assert table[-1] == pytest.approx(0.05)
    assert (np.diff(table[40:]) < 0).all()


@pytest.mark.parametrize("by_epoch", [False, True])
def test_a_cosine_with_a_floor_is_its_formula_at_every_step_or_every_epoch(by_epoch):
    table = rates(kind="cosine", final_fraction=0.05, by_epoch=by_epoch, peak=1.0)
    for step, rate in enumerate(table):
        t, total = (step // 20, 10) if by_epoch else (step, 200)
        by_hand = 0.5 * (1 + math.cos(math.pi * t / total)) * 0.95 + 0.05
        assert rate == pytest.approx(by_hand, rel=1e-6)


def notebook_rate(epoch):
    """As the Kaggle notebooks write it: 5 epochs up, 2 held, then down."""
    start, top, bottom, ramp, hold, decay = 5e-6, 1.6e-4, 1e-6, 5, 2, 0.8
    if epoch < ramp:
        return (top - start) / ramp * epoch + start
    if epoch < ramp + hold:
        return top
    return (top - bottom) * decay ** (epoch - ramp - hold) + bottom


def test_ramp_hold_decay_by_epoch_is_the_notebooks():
    table = rates(
        kind="ramp_hold_decay", epochs=15, steps_per_epoch=3, peak=1.6e-4, ramp_epochs=5.0,
        hold_epochs=2.0, factor=0.8, start_fraction=5e-6 / 1.6e-4, min_fraction=1e-6 / 1.6e-4,
        by_epoch=True,
    )  # fmt: skip
    by_hand = np.repeat([notebook_rate(epoch) for epoch in range(15)], 3)
    np.testing.assert_allclose(table, by_hand, rtol=1e-5)


def test_ramp_hold_decay_moves_at_every_step_through_the_values_of_the_epochs():
    settings = {"kind": "ramp_hold_decay", "hold_epochs": 2.0}
    smooth, stairs = rates(**settings), rates(**settings, by_epoch=True)
    np.testing.assert_array_equal(smooth[::20], stairs[::20])
    assert (np.diff(smooth[:101]) > 0).all()
    assert (np.diff(smooth[140:]) < 0).all()
    np.testing.assert_array_equal(smooth[100:140], np.float32(0.5))


def test_ramp_hold_decay_may_begin_at_its_peak():
    table = rates(kind="ramp_hold_decay", ramp_epochs=0.0, hold_epochs=1.0, factor=0.5)
    np.testing.assert_allclose(table[[0, 20, 40]], [0.5, 0.5, 0.5 * (0.01 + 0.99 / 2)], rtol=1e-6)


def test_the_staircase_falls_by_its_factor_every_so_many_epochs():
    table = rates(kind="exponential_staircase", factor=0.97, every_epochs=2.4)
    # 2.4 epochs of 20 steps are 48 steps.
    at = [0, 47, 48, 95, 96, 199]
    np.testing.assert_allclose(table[at], 0.5 * 0.97 ** np.array([0, 0, 1, 1, 2, 4]), rtol=1e-6)


def test_the_staircase_counts_from_the_first_step_also_after_a_warm_up():
    table = rates(kind="exponential_staircase", factor=0.5, every_epochs=2.0, warmup_epochs=5.0)
    assert table[99] == pytest.approx(0.5)
    assert table[100] == pytest.approx(0.5 * 0.5**2)


def test_a_step_schedule_falls_at_its_milestones():
    table = rates(kind="step", milestones=(4.0, 6.5), factor=0.1)
    at = [0, 79, 80, 129, 130, 199]
    np.testing.assert_allclose(table[at], [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "on_plateau"])
def test_constant_and_plateau_tables_never_change(kind):
    np.testing.assert_array_equal(rates(kind=kind), np.float32(0.5))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_of_one_step_an_epoch_has_finite_rates(kind, epochs):
    table = rates(kind=kind, epochs=epochs, steps_per_epoch=1, **NEEDED.get(kind, {}))
    assert np.isfinite(table).all()


def plateau(epochs_per_score=1, **settings):
    return Plateau(ScheduleConfig(kind="on_plateau", **settings), epochs_per_score)


def test_the_rate_falls_after_each_stretch_without_a_better_score():
    falling = plateau(factor=0.1, patience_epochs=2)
    scores = [0.5, 0.6, 0.6, 0.59, 0.58, 0.7, 0.1, 0.1, 0.1]
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert [falling.update(score) for score in scores] == pytest.approx(expected)


def test_the_fall_ends_at_the_smallest_fraction():
    falling = plateau(factor=0.1, patience_epochs=1, min_fraction=0.05)
    assert [falling.update(0.5) for _ in range(4)] == [1.0, 0.1, 0.05, 0.05]


def test_patience_is_in_epochs_also_where_scores_come_every_second_one():
    falling = plateau(factor=0.1, patience_epochs=4, epochs_per_score=2)
    assert [falling.update(0.5) for _ in range(4)] == [1.0, 1.0, 0.1, 0.1]


def test_a_score_that_is_not_a_number_is_no_better_one():
    falling = plateau(factor=0.1, patience_epochs=1)
    assert [falling.update(score) for score in (math.nan, 0.5, math.nan)] == pytest.approx(
        [0.1, 0.1, 0.01]
    )


@pytest.mark.parametrize("cut", range(6))
def test_a_plateau_goes_on_from_its_state_in_json(cut):
    scores = [0.5, 0.5, 0.6, 0.6, 0.6, 0.6]
    whole, first, second = (plateau(factor=0.5, patience_epochs=2) for _ in range(3))
    expected = [whole.update(score) for score in scores]
    got = [first.update(score) for score in scores[:cut]]
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    got += [second.update(score) for score in scores[cut:]]
    assert got == expected


def test_a_resolved_schedule_says_its_defaults_and_means_the_same():
    config = ScheduleConfig(kind="exponential_staircase", factor=0.9)
    resolved = config.resolved()
    assert (resolved.factor, resolved.every_epochs, resolved.warmup_epochs) == (0.9, 2.4, 0.0)
    assert resolved.final_fraction is None
    assert resolved.resolved() == resolved
    np.testing.assert_array_equal(
        learning_rates(config, 0.5, 10, 20), learning_rates(resolved, 0.5, 10, 20)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cosin"}, "unknown kind 'cosin'; did you mean 'cosine'"),
        ({"final_fraction": 1.5}, r"final_fraction must be in \[0, 1\], got 1.5"),
        ({"warmup_epochs": -1.0}, "warmup_epochs must be 0 or more and finite, got -1"),
        ({"kind": "step"}, r"milestones must be given for kind 'step', such as \[5, 8\], got none"),
        (
            {"kind": "step", "milestones": (5.0, 3.0)},
            r"milestones must be epochs above 0, each later .* got \[5.0, 3.0\]",
        ),
        ({"kind": "step", "milestones": (math.nan,)}, "milestones must be"),
        (
            {"kind": "constant", "warmup_epochs": 1.0},
            "warmup_epochs must be left out with kind 'constant', got 1.0; it belongs to "
            "warmup_cosine, exponential_staircase, step, on_plateau",
        ),
        ({"factor": 0.5}, "factor must be left out with kind 'warmup_cosine'"),
        ({"kind": "on_plateau", "patience_epochs": 0}, "patience_epochs must be 1 or more, got 0"),
        ({"kind": "on_plateau", "factor": 1.0}, r"factor must be in \(0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range_or_of_another_kind_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**settings)
