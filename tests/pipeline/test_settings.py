"""Settings: what TOML, flags and --set may say, and how they are refused."""

import dataclasses
import tomllib
from typing import Literal

import pytest

from pipeline.settings import (
    SettingsError,
    from_tables,
    load_toml,
    merge,
    parse_override,
    to_tables,
    to_toml,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    gamma: float = 2.0
    kind: Literal["focal", "bce"] = "focal"

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"loss.gamma must be 0 or more, got {self.gamma}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    epochs: int
    clip: float | None = None
    tags: tuple[str, ...] = ()
    loss: tuple[Loss, ...] = (Loss(),)
    columns: str | tuple[str, ...] | None = None
    size: tuple[int, int] = (1, 1)


def test_tables_fill_a_dataclass_and_come_back_as_toml():
    tables = {
        "epochs": 3, "clip": 1, "tags": ["a"], "loss": [{"gamma": 1}, {"kind": "bce"}],
        "columns": ["x", "y"], "size": [2, 3],
    }  # fmt: skip
    train = from_tables(Train, tables, "t")
    assert train == Train(
        epochs=3, clip=1.0, tags=("a",), loss=(Loss(gamma=1.0), Loss(kind="bce")),
        columns=("x", "y"), size=(2, 3),
    )  # fmt: skip
    assert from_tables(Train, tomllib.loads(to_toml(train)), "t") == train


def test_one_table_reads_as_a_list_of_one():
    assert from_tables(Train, {"epochs": 1, "loss": {"gamma": 0}}, "t").loss == (Loss(gamma=0.0),)


def test_what_is_off_is_left_out():
    assert "clip" not in to_tables(Train(epochs=1))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"epoch": 3}, "t: unknown key 'epoch'; did you mean 'epochs'?"),
        ({}, "t: 'epochs' must be given"),
        ({"epochs": "3"}, "t: epochs must be a whole number, got '3'"),
        ({"epochs": True}, "t: epochs must be a whole number, got True"),
        ({"epochs": 3, "clip": "x"}, "t: clip must be a number, got 'x'"),
        ({"epochs": 3, "tags": "a"}, "t: tags must be a list, got 'a'"),
        ({"epochs": 3, "size": [1]}, r"t: size must have 2 values, got \[1\]"),
        ({"epochs": 3, "columns": 1}, "t: columns must be text or .*, got 1"),
        ({"epochs": 3, "loss": {"gama": 1}}, "t: loss: unknown key 'gama'; did you mean 'gamma'?"),
        ({"epochs": 3, "loss": {"gamma": -1}}, "loss.gamma must be 0 or more, got -1.0"),
        ({"epochs": 3, "loss": {"kind": "x"}}, "kind must be one of 'focal', 'bce', got 'x'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_value(tables, message):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        from_tables(Train, tables, "t")


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train.epochs=3", {"train": {"epochs": 3}}),
        ("lr=1e-3", {"lr": 1e-3}),
        ("model.fusion=concat", {"model": {"fusion": "concat"}}),
        ("model.fusion=none", {"model": {"fusion": None}}),
        ("sites=['NO', 'SE']", {"sites": ["NO", "SE"]}),
        ("a=true", {"a": True}),
    ],
)
def test_an_override_is_read_as_toml_or_as_text(text, tables):
    assert parse_override(text) == tables


@pytest.mark.parametrize("text", ["epochs", "=3", "a..b=1"])
def test_an_override_without_a_key_is_refused(text):
    with pytest.raises(SettingsError, match="--set must be KEY=VALUE"):
        parse_override(text)


def test_merging_keeps_what_the_second_does_not_name():
    assert merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}}) == {
        "a": {"x": 1, "y": 4},
        "b": 3,
    }


def test_a_table_goes_over_the_only_one_of_a_list_or_over_those_it_names():
    one, two = [{"kind": "focal"}], [{"kind": "focal"}, {"kind": "bce", "weight": 2}]
    assert merge({"loss": one}, {"loss": {"gamma": 1}}) == {"loss": [{"kind": "focal", "gamma": 1}]}
    named = merge({"loss": two}, {"loss": {"1": {"weight": 3}}})
    assert named == {"loss": [{"kind": "focal"}, {"kind": "bce", "weight": 3}]}
    assert merge({"loss": two}, {"loss": [{"kind": "ce"}]}) == {"loss": [{"kind": "ce"}]}
    assert two == [{"kind": "focal"}, {"kind": "bce", "weight": 2}]


@pytest.mark.parametrize("over", [{"gamma": 1}, {"2": {"gamma": 1}}])
def test_a_table_over_a_list_of_several_must_name_its_place(over):
    with pytest.raises(SettingsError, match=r"loss is a list of 2 tables: .* loss\.0 to loss\.1"):
        merge({"loss": [{"kind": "focal"}, {"kind": "bce"}]}, {"loss": over})


def test_a_toml_that_is_not_there_or_not_toml_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml: no such file"):
        load_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(SettingsError, match=r"bad\.toml: not valid TOML"):
        load_toml(tmp_path / "bad.toml")
