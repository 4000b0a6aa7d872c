"""Settings: frozen dataclasses filled from TOML, flags and `--set a.b=value`.

Used by the dataset spec (`pipeline.dataset.spec`) and by the trainer's config (`trainer.config`).
A key that no dataclass has is refused with the nearest one that exists, so that a misspelt setting
never trains a model that nobody asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import tomli_w

from pipeline import storage
from pipeline.errors import SettingsError as SettingsError

T = TypeVar("T")
_MOST_NAMES = 40  # in an error


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the known name most like `name`, or the list of them all."""
    names = sorted(known)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if match:
        return f"did you mean {match[0]!r}?"
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"known are {', '.join(names[:_MOST_NAMES])}{more}"


def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file; a syntax error names the file."""
    try:
        return tomllib.loads(storage.read_text(os.fspath(path)))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def load_recipe(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The tables of a recipe laid over those of its base, and its files' names for messages.

    `base = "b0.toml"` names a file beside the recipe or in a folder below, which may have a base in
    turn. Tables are merged, lists such as `[[augment]]` are replaced whole.

    Raises:
      SettingsError: a file is missing or no TOML, or a base lies elsewhere or leads back.
    """
    chain = [storage.join(os.fspath(path))]
    folder = storage.parent(chain[0])
    tables = load_toml(path)
    while "base" in tables:
        base, file = tables.pop("base"), chain[-1]
        below = storage.join(storage.parent(file), base if isinstance(base, str) else "")
        is_within = storage.is_inside(below, folder) and below.endswith(".toml")
        if not is_within or base.startswith(("/", "gs://")):
            name = storage.resolve(folder).rpartition("/")[2]
            raise SettingsError(
                f"{file}: base must be a .toml file in {name}/ or below, by a path from there, got "
                f"{base!r}"
            )
        if storage.resolve(below) in map(storage.resolve, chain):
            names = " on ".join([*chain, below])
            raise SettingsError(f"{file}: base must not lead back, got {names}")
        chain.append(below)
        beneath = load_toml(below)
        tables = merge(beneath, tables)
    return tables, " on ".join(chain)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on top, table by table.

    Of a list of tables, a table goes over the only one, or over those it names: `{"0": {...}}`.

    Raises:
      SettingsError: a table goes over a list of several, or names a place that is not there.
    """
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _laid_over(merged.get(key), value, key)
    return merged


def _laid_over(old: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if isinstance(old, Mapping):
        return merge(old, value)
    if not (isinstance(old, Sequence) and old and all(isinstance(item, Mapping) for item in old)):
        return value
    by_place = {"0": value} if len(old) == 1 and "0" not in value else value
    places = [str(place) for place in range(len(old))]
    for name in by_place:
        if name not in places:
            raise SettingsError(
                f"{where} is a list of {len(old)} tables: name one by its place, "
                f"{where}.0 to {where}.{places[-1]}, got {where}.{name}"
            )
    return [merge(item, by_place.get(place, {})) for place, item in zip(places, old, strict=True)]


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=value` as nested tables; a value that isn't TOML is text, and `none` is None."""
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise SettingsError(f"--set must be KEY=VALUE such as train.epochs=3, got {text!r}")
    try:
        parsed: Any = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = None if value.strip() == "none" else value.strip()
    for name in reversed(names):
        parsed = {name: parsed}
    return typing.cast(dict[str, Any], parsed)


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """`["train.epochs (there 3, asked 5)"]`: every key whose values differ, in order of name."""
    old, new = _flat(there), _flat(asked)
    return [
        f"{key} (there {old.get(key)!r}, asked {new.get(key)!r})"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def from_tables(cls: type[T], tables: Mapping[str, Any], where: str) -> T:
    """Fills the dataclass `cls` from nested tables; `where` (a file, a flag) begins every error.

    A field typed `tuple[Item, ...]` of dataclasses takes a list of tables, and a single table as a
    list of one: `[loss]` and `[[loss]]` both read well.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in tables:
        if name not in fields:
            raise SettingsError(f"{where}: unknown key {name!r}; {nearest(name, fields)}")
    hints = typing.get_type_hints(cls)
    values = {
        name: _convert(hints[name], value, f"{where}: {name}") for name, value in tables.items()
    }
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SettingsError(f"{where}: {missing[0]!r} must be given")
    try:
        return cls(**values)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def to_tables(settings: Any) -> dict[str, Any]:
    """The inverse of `from_tables`: plain tables, without the settings that are `None` (off)."""
    tables: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            tables[field.name] = to_tables(value)
        elif isinstance(value, tuple):
            tables[field.name] = [to_tables(v) if dataclasses.is_dataclass(v) else v for v in value]
        elif value is not None:
            tables[field.name] = value
    return tables


def to_toml(settings: Any) -> str:
    """The resolved settings as a TOML document that `load_toml` and `from_tables` read back."""
    return tomli_w.dumps(to_tables(settings))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"epochs": 3}}` as `{"train.epochs": 3}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        flat.update({f"{prefix}{key}": value} if inner is None else inner)
    return flat


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, or a SettingsError; an int is a fine float, nothing else is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            allowed = ", ".join(repr(arg) for arg in args)
            raise SettingsError(f"{where} must be one of {allowed}, got {value!r}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where} must be a table, got {value!r}")
        return from_tables(typing.cast(type[Any], hint), value, where)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise SettingsError(f"{where} must be {_type_name(hint)}, got {value!r}")


def _convert_union(args: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    for arg in args:
        if arg is type(None):
            continue
        try:
            return _convert(arg, value, where)
        except SettingsError as error:
            failure = error
            if dataclasses.is_dataclass(arg) and isinstance(value, Mapping):
                raise
    kinds = [arg for arg in args if arg is not type(None)]
    if len(kinds) == 1:
        raise failure
    names = " or ".join(dict.fromkeys(_type_name(kind) for kind in kinds))
    raise SettingsError(f"{where} must be {names}, got {value!r}")


def _convert_tuple(args: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    of_tables = dataclasses.is_dataclass(args[0])
    items = [value] if of_tables and isinstance(value, Mapping) else value
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise SettingsError(f"{where} must be a list, got {value!r}")
    if args[-1] is not Ellipsis and len(items) != len(args):
        raise SettingsError(f"{where} must have {len(args)} values, got {value!r}")
    hints = [args[0]] * len(items) if args[-1] is Ellipsis else args
    return tuple(
        _convert(hint, item, f"{where}.{place}" if len(items) > 1 else where)
        for place, (hint, item) in enumerate(zip(hints, items, strict=True))
    )


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return "a list"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(arg) for arg in typing.get_args(hint))
    if dataclasses.is_dataclass(hint):
        return f"a table of {', '.join(field.name for field in dataclasses.fields(hint))}"
    return names.get(hint) or str(getattr(hint, "__name__", hint))
