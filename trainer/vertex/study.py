"""A study for Vertex AI's tuner: `configs/study.toml` → the API's `StudySpec`.

Each value of each parameter is laid over the recipe once, so that a trial is not the first to find
out that a recipe refuses it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.settings import from_tables, load_toml
from trainer.config import load_config

_ALGORITHMS = {"bayesian": None, "random": "RANDOM_SEARCH", "grid": "GRID_SEARCH"}
_SCALES = {"linear": "UNIT_LINEAR_SCALE", "log": "UNIT_LOG_SCALE"}


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
        if bool(self.values) == (self.low is not None and self.high is not None):
            raise ValueError(f"{self.key}: must have low and high, or values, got both or neither")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"{self.key}: low must be less than high, got {self.low}, {self.high}")
        if self.scale == "log" and (self.low is None or self.low <= 0):
            raise ValueError(f"{self.key}: low must be above 0 for scale = 'log', got {self.low}")

    @property
    def ends(self) -> tuple[Any, ...]:
        """What a recipe must take: every value, or both ends of the range."""
        if self.values:
            return self.values
        ends = [end for end in (self.low, self.high) if end is not None]
        return tuple(map(int, ends)) if self.is_whole else tuple(ends)

    def as_spec(self) -> dict[str, Any]:
        """A `ParameterSpec` in the API's names."""
        spec: dict[str, Any] = {"parameter_id": self.key}
        if not self.values:
            low, high = self.ends
            kind = "integer_value_spec" if self.is_whole else "double_value_spec"
            return {
                **spec,
                kind: {"min_value": low, "max_value": high},
                "scale_type": _SCALES[self.scale],
            }
        if all(type(value) in (int, float) for value in self.values):
            numbers = sorted(float(value) for value in self.values)
            return {**spec, "discrete_value_spec": {"values": numbers}}
        return {**spec, "categorical_value_spec": {"values": [str(v) for v in self.values]}}


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

    def as_spec(self) -> dict[str, Any]:
        """A `StudySpec` in the API's names."""
        algorithm = _ALGORITHMS[self.algorithm]
        return {
            "metrics": [{"metric_id": self.metric, "goal": "MAXIMIZE"}],
            "parameters": [parameter.as_spec() for parameter in self.parameter],
            **({} if algorithm is None else {"algorithm": algorithm}),
        }


def read_study(path: str, config_path: str | None, overrides: list[str]) -> Study:
    """The study of a TOML file, each of its values tried on the recipe.

    Raises:
      SettingsError: the file, or a value that the recipe refuses.
    """
    study = from_tables(Study, load_toml(path), path)
    for parameter in study.parameter:
        for value in parameter.ends:
            try:
                load_config(config_path, [*overrides, f"{parameter.key}={value}"])
            except SettingsError as error:
                raise SettingsError(f"{path}: {parameter.key} = {value}: {error}") from error
    return study
