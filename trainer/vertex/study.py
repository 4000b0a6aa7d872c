"""A study for Vertex AI's tuner: `configs/study.toml` → the API's `StudySpec`.

Each value of each parameter is laid over the recipe once, so that a trial is not the first to find
out that a recipe or the machine refuses it; and what the API would refuse is refused here:
  https://cloud.google.com/vertex-ai/docs/reference/rest/v1/StudySpec
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.settings import from_tables, load_toml
from trainer.config import load_config
from trainer.strategy import check_replicas
from trainer.trial import as_overrides

_ALGORITHMS = {"bayesian": None, "random": "RANDOM_SEARCH", "grid": "GRID_SEARCH"}
_SCALES = {"linear": "UNIT_LINEAR_SCALE", "log": "UNIT_LOG_SCALE"}
_KEY = re.compile(r"[^\s=.]+(\.[^\s=.]+)+")  # a trial knows a setting by its dot
_MOST_VALUES = 1_000  # the API's, as the next
_APART = 1e-10
_MOST_TRIED = 256  # numbers of a whole range; a recipe is checked in some 2 ms
_STEPS = 9  # numbers of a real range
_NO_RANGE = "; name values in place of low and high"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """`[[parameter]]`: a setting of the recipe, and a range or the values to try."""

    key: str
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    is_whole: bool = False  # whole numbers of the range
    values: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(
                f"key must be TABLE.NAME of the recipe, without blanks, got {self.key!r}"
            )
        if bool(self.values) == (self.low is not None and self.high is not None):
            raise ValueError(f"{self.key}: must have low and high, or values, got both or neither")
        if self.values:
            self._check_values()
        else:
            self._check_range(*self.ends)

    @property
    def ends(self) -> tuple[float, float]:
        """Of a range."""
        assert self.low is not None and self.high is not None  # noqa: PT018 (one claim)
        return self.low, self.high

    @property
    def is_number(self) -> bool:
        """True for values that are numbers: the tuner knows their order."""
        return all(type(value) in (int, float) for value in self.values)

    def tried(self) -> list[str]:
        """What a recipe must take, as the tuner writes it.

        Every value; of a range both ends and what lies evenly between: each whole number unless
        there are too many.
        """
        if self.values:
            return [_text(float(v) if self.is_number else v) for v in self.values]
        low, high = self.ends
        count = _MOST_TRIED if self.is_whole else _STEPS
        if self.is_whole and high - low < count:
            return [str(number) for number in range(int(low), int(high) + 1)]
        shares = [place / (count - 1) for place in range(1, count - 1)]
        if self.scale == "log":
            between = [low * (high / low) ** share for share in shares]
        else:
            between = [low + (high - low) * share for share in shares]
        numbers = [low, *between, high]
        return [_text(round(number) if self.is_whole else number) for number in numbers]

    def as_spec(self) -> dict[str, Any]:
        """A `ParameterSpec` in the API's names."""
        spec: dict[str, Any] = {"parameter_id": self.key}
        if not self.values:
            low, high = map(int, self.ends) if self.is_whole else self.ends
            kind = "integer_value_spec" if self.is_whole else "double_value_spec"
            return {
                **spec,
                kind: {"min_value": low, "max_value": high},
                "scale_type": _SCALES[self.scale],
            }
        if self.is_number:
            numbers = sorted(float(value) for value in self.values)
            return {**spec, "discrete_value_spec": {"values": numbers}}
        return {**spec, "categorical_value_spec": {"values": list(map(_text, self.values))}}

    def _check_range(self, low: float, high: float) -> None:
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{self.key}: low and high must be finite, got {low}, {high}")
        if not low < high:
            raise ValueError(f"{self.key}: low must be less than high, got {low}, {high}")
        if self.scale == "log" and low <= 0:
            raise ValueError(f"{self.key}: low must be above 0 for scale = 'log', got {low}")
        if self.is_whole and not (low.is_integer() and high.is_integer()):
            raise ValueError(
                f"{self.key}: low and high must be whole for is_whole, got {low:g}, {high:g}"
            )

    def _check_values(self) -> None:
        """As the API asks of `DiscreteValueSpec`, and of texts that they differ."""
        if self.scale != "linear":
            raise ValueError(f"{self.key}: scale must be left out with values, got {self.scale!r}")
        if len(self.values) > _MOST_VALUES:
            raise ValueError(
                f"{self.key}: values must be {_MOST_VALUES:,} at most, got {len(self.values):,}"
            )
        texts = self.tried()
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"{self.key}: values must differ, got {text} again")
        if self.is_number:
            for low, high in itertools.pairwise(sorted(self.values)):
                if high - low < _APART:
                    raise ValueError(
                        f"{self.key}: values must be {_APART:g} or more apart, got {low}, {high}"
                    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A search by the tuner: which settings, how often, and what for."""

    parameter: tuple[Parameter, ...]
    metric: Literal["auc", "average_precision"] = "auc"  # pooled, out of fold; to be large
    algorithm: Literal["bayesian", "random", "grid"] = "bayesian"
    trials: int = 20
    parallel: int = 2  # at once, each on a TPU of its own; fewer let the tuner learn more
    max_failed: int = 3

    def __post_init__(self) -> None:
        if not self.parameter:
            raise ValueError("parameter must be given once or more, got none")
        keys = [parameter.key for parameter in self.parameter]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"parameter: a key must be given once, got {key} again")
        if not 1 <= self.parallel <= self.trials:
            raise ValueError(f"parallel must be in 1-{self.trials}, got {self.parallel}")
        if self.max_failed < 0:
            raise ValueError(f"max_failed must be 0 or more, got {self.max_failed}")
        for item in self.parameter if self.algorithm == "grid" else ():
            if not item.values and not item.is_whole:
                low, high = item.ends
                raise ValueError(
                    f"{item.key}: a grid takes values and ranges of whole numbers, got a range of "
                    f"real numbers, {low}-{high}; give values, is_whole = true, or another "
                    "algorithm"
                )

    def as_spec(self) -> dict[str, Any]:
        """A `StudySpec` in the API's names."""
        algorithm = _ALGORITHMS[self.algorithm]
        return {
            "metrics": [{"metric_id": self.metric, "goal": "MAXIMIZE"}],
            "parameters": [parameter.as_spec() for parameter in self.parameter],
            **({} if algorithm is None else {"algorithm": algorithm}),
        }


def read_study(path: str, config_path: str | None, overrides: list[str], *, replicas: int) -> Study:
    """The study of a TOML file, each of its parameters tried on the recipe and the machine.

    Raises:
      SettingsError: the file, a value that the recipe refuses, or a batch that does not divide over
        the replicas.
    """
    study = from_tables(Study, load_toml(path), path)
    for parameter in study.parameter:
        for text in parameter.tried():
            words = as_overrides([f"--{parameter.key}={text}"])[1::2]
            try:
                config = load_config(config_path, [*overrides, *words])
                check_replicas(replicas, config.train.batch_size)
            except SettingsError as error:
                mend = "" if parameter.values else _NO_RANGE
                raise SettingsError(f"{path}: {parameter.key} = {text}: {error}{mend}") from error
    return study


def _text(value: Any) -> str:
    """A value as a recipe has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
