"""The scales of the search's charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.search.charts import Scale, Series, line_chart, named_scatter_chart, scale_of

numbers = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: round(value, 3))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1, 10, [2, 4, 6, 8, 10]),
        (1, 3, [1, 2, 3]),
        (0.61, 0.79, [0.65, 0.7, 0.75]),
        (0.5, 0.5, [0.5]),
    ],
)
def test_ticks_are_round_and_epochs_have_no_halves(low, high, ticks):
    assert Scale(low=float(low), high=float(high)).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([1e-5, 1e-2], [1e-5, 1e-4, 1e-3, 1e-2]),
        ([2.7e-4, 5.7e-3], [5e-4, 1e-3, 2e-3, 5e-3]),
    ],
)
def test_values_far_apart_are_shown_by_their_logarithm(values, ticks):
    scale = scale_of(values)
    assert scale.is_log
    assert scale.ticks() == pytest.approx(ticks)
    assert scale.place(values[0]) == 0
    assert scale.place((values[0] * values[1]) ** 0.5) == pytest.approx(0.5)
    assert scale.place(values[1]) == 1


def test_zero_and_less_have_no_logarithm():
    assert not scale_of([0.0, 1.0]).is_log
    assert not scale_of([-1.0, 100.0]).is_log


@given(st.lists(numbers, min_size=1, max_size=8))
def test_whatever_the_values_they_and_their_ticks_are_within_the_plot(values):
    scale = scale_of(values)
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert len(scale.ticks()) <= 12
    assert all(-1e-6 <= scale.place(tick) <= 1 + 1e-6 for tick in scale.ticks())


def test_names_and_titles_are_escaped():
    series = [Series(points=((0.0, 0.5),), colour=0, title="<b>1</b>")]
    chart = named_scatter_chart(["<i>"], series, "a<b") + line_chart(series, "epoch")
    assert chart.count("&lt;b&gt;1&lt;/b&gt;") == 2
    assert "&lt;i&gt;" in chart
    assert "a&lt;b" in chart
    assert chart.count("<circle") == 2
