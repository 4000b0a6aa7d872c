"""`trainer.search.space`: which combinations are tried."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from trainer.search.space import combinations, parse_grid, parse_range


def tried(*, grid=(), random=(), draws=None, seed=0):
    return combinations(
        [parse_grid(text) for text in grid],
        [parse_range(text) for text in random],
        draws=draws,
        seed=seed,
    )


def test_a_grid_is_every_value_with_every_other():
    assert tried(grid=["a.x=1e-3,3e-4", "b=on,off"]) == [
        {"a.x": "1e-3", "b": "on"},
        {"a.x": "1e-3", "b": "off"},
        {"a.x": "3e-4", "b": "on"},
        {"a.x": "3e-4", "b": "off"},
    ]


def test_commas_within_brackets_part_no_values():
    lists = parse_grid("model.fusion_units=[32], [64, 32],none")
    assert lists.values == ("[32]", "[64, 32]", "none")
    assert parse_grid("data.sampling=natural,{positive_share = 0.1}").values[1][0] == "{"


@given(
    low=st.floats(1e-6, 1, exclude_max=True),
    ratio=st.floats(1.01, 1e5),
    is_log=st.booleans(),
    number=st.integers(0, 50),
)
def test_a_draw_is_a_short_number_within_the_range(low, ratio, is_log, number):
    range_ = parse_range(f"a={low!r}:{low * ratio!r}" + (":log" if is_log else ""))
    text = range_.draw(seed=3, number=number)
    assert low <= float(text) <= low * ratio
    assert float(text) in (low, low * ratio, float(f"{float(text):.4g}"))


def test_logarithms_are_drawn_evenly_where_asked():
    drawn = [parse_range("a=1e-4:1.0:log").draw(0, number) for number in range(400)]
    assert 150 < sum(float(text) < 1e-2 for text in drawn) < 250
    even = [parse_range("a=0.0:1.0").draw(0, number) for number in range(400)]
    assert 150 < sum(float(text) < 0.5 for text in even) < 250


@pytest.mark.parametrize("log", ["", ":log"])
def test_between_whole_numbers_whole_numbers_are_drawn_ends_and_all(log):
    drawn = {parse_range(f"a=2:5{log}").draw(1, number) for number in range(100)}
    assert drawn == {"2", "3", "4", "5"}


def test_a_longer_search_begins_with_the_shorter_one():
    few = tried(random=["a=0.0:1.0"], draws=3, seed=5)
    assert tried(random=["a=0.0:1.0"], draws=9, seed=5)[:3] == few
    wider = tried(random=["b=0.0:1.0", "a=0.0:1.0"], draws=3, seed=5)
    assert [trial["a"] for trial in wider] == [trial["a"] for trial in few]
    assert all(trial["a"] != trial["b"] for trial in wider)
    assert tried(random=["a=0.0:1.0"], draws=3, seed=6) != few


def test_every_value_of_a_grid_has_the_same_draws():
    both = tried(grid=["b=1,2"], random=["a=0.0:1.0"], draws=4)
    assert len(both) == 8
    drawn = [[trial["a"] for trial in both if trial["b"] == value] for value in "12"]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4
    assert not any(math.isnan(float(text)) for text in drawn[0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "--grid or --random must be given"),
        ({"grid": ["a"]}, "--grid must be KEY=VALUES such as loss.gamma=1,2, got 'a'"),
        ({"grid": ["a=1,,2"]}, "values must be parted by single commas"),
        ({"grid": ["a=1", "a=2"]}, "a key must be given once, got a again"),
        ({"random": ["a=1:2"]}, "--trials must be given with --random"),
        ({"grid": ["a=1"], "draws": 3}, "--trials must be given with --random, and only with it"),
        ({"random": ["a=1:2"], "draws": 0}, "--trials must be 1 or more, got 0"),
        ({"random": ["a=1:2"], "draws": 1, "seed": -1}, "--seed must be 0 or more, got -1"),
        ({"random": ["a=1"], "draws": 1}, "the range must be LOW:HIGH or LOW:HIGH:log"),
        ({"random": ["a=1:inf"], "draws": 1}, "the range must be LOW:HIGH or LOW:HIGH:log"),
        ({"random": ["a=1:2:lin"], "draws": 1}, "the range must be LOW:HIGH or LOW:HIGH:log"),
        ({"random": ["a=2:1"], "draws": 1}, "LOW must be less than HIGH, got 2 and 1"),
        ({"random": ["a=0.0:1:log"], "draws": 1}, "LOW must be above 0 for a log range"),
    ],
)
def test_what_cannot_be_tried_is_told(asked, message):
    with pytest.raises(SettingsError) as refused:
        tried(**asked)
    assert message in str(refused.value)
