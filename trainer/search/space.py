"""Which settings a search tries: every value of `--grid`, draws of `--random`, and both together.

A combination maps a recipe's keys to values as `--set` takes them. Nothing here knows a recipe:
`trainer.search.trials` checks each combination by loading it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import zlib
from collections.abc import Sequence

import numpy as np

from pipeline.errors import SettingsError

Combination = dict[str, str]

_DIGITS = 4  # of a draw: a learning rate that can be read, and typed again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A key and the values to try."""

    key: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """A key whose values are drawn uniformly, or so that their logarithms are, both ends in."""

    key: str
    low: float  # both int: whole numbers are drawn
    high: float
    is_log: bool

    def draw(self, seed: int, number: int) -> str:
        """The value of one draw. It depends on neither the count of draws nor the other keys.

        So a longer search begins with the trials of the shorter one.
        """
        rng = np.random.default_rng([seed, number, zlib.crc32(self.key.encode())])
        is_whole = isinstance(self.low, int) and isinstance(self.high, int)
        low, high = self.low, self.high + is_whole  # each whole number has one unit of length
        if self.is_log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        if is_whole:
            return str(min(math.floor(value), int(self.high)))
        return repr(min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high))


def parse_grid(text: str) -> Grid:
    """`optimizer.learning_rate=1e-3,3e-4`; commas within brackets part nothing."""
    key, values = _key_and_values("--grid", text, "loss.gamma=1,2")
    items = [item.strip() for item in re.split(r",(?![^\[{]*[\]}])", values)]
    if not all(items):
        raise SettingsError(f"--grid {text}: values must be parted by single commas")
    return Grid(key=key, values=tuple(dict.fromkeys(items)))


def parse_range(text: str) -> Range:
    """`optimizer.learning_rate=1e-4:1e-2:log`, or without `:log`."""
    key, values = _key_and_values("--random", text, "optimizer.learning_rate=1e-4:1e-2:log")
    ends = values.split(":")
    is_log = len(ends) == 3 and ends[2].strip() == "log"
    numbers = [_number(end) for end in ends[:2]]
    if len(ends) != 2 + is_log or None in numbers:
        raise SettingsError(f"--random {text}: the range must be LOW:HIGH or LOW:HIGH:log")
    low, high = (number for number in numbers if number is not None)
    if not low < high:
        raise SettingsError(f"--random {text}: LOW must be less than HIGH, got {low} and {high}")
    if is_log and low <= 0:
        raise SettingsError(f"--random {text}: LOW must be above 0 for a log range, got {low}")
    return Range(key=key, low=low, high=high, is_log=is_log)


def combinations(
    grids: Sequence[Grid], ranges: Sequence[Range], *, draws: int | None, seed: int
) -> list[Combination]:
    """Every combination of the grids, with each of the `draws` draws of the ranges.

    All of the grid get the same draws, so what a grid's values differ by is not the draws' luck.

    Raises:
      SettingsError: there is nothing to try, a key comes twice, or draws and ranges don't match.
    """
    keys = [grid.key for grid in grids] + [range_.key for range_ in ranges]
    if not keys:
        raise SettingsError("--grid or --random must be given, got neither")
    for key in keys:
        if keys.count(key) > 1:
            raise SettingsError(f"--grid, --random: a key must be given once, got {key} again")
    if bool(ranges) != (draws is not None):
        raise SettingsError(
            "--trials must be given with --random, and only with it: how often to draw, such as 20"
        )
    if draws is not None and draws < 1:
        raise SettingsError(f"--trials must be 1 or more, got {draws}")
    if seed < 0:
        raise SettingsError(f"--seed must be 0 or more, got {seed}")
    drawn = [
        {range_.key: range_.draw(seed, number) for range_ in ranges} for number in range(draws or 1)
    ]
    chosen = [
        dict(zip((grid.key for grid in grids), values, strict=True))
        for values in itertools.product(*(grid.values for grid in grids))
    ]
    return [{**of_grid, **of_draw} for of_draw in drawn for of_grid in chosen]


def _key_and_values(flag: str, text: str, example: str) -> tuple[str, str]:
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"{flag} must be KEY=VALUES such as {example}, got {text!r}")
    return key.strip(), values


def _number(text: str) -> float | None:
    """An int where the text is one; None for what is no finite number."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
