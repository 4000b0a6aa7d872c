"""Flags of ours and `--dataflow_option`s as the words that Beam's own parser takes.

Beam drops a misspelt option with a warning, ends the process over a bad value, and takes no value
for a switch, where a Flex Template's launcher says `true`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.errors import SettingsError
from pipeline.settings import nearest


def as_beam_flags(given: Mapping[str, Any], further: Iterable[str]) -> tuple[str, ...]:
    """`--NAME=VALUE` for flags and `NAME[=VALUE]`s, in any of Beam's spellings.

    A list is said value by value; a switch is left out, or its opposite said, where it is false.

    Raises:
      SettingsError: Beam has no such option, takes no such value, or can't turn a switch off.
    """
    parser, words = beam_parser(), []
    known = {
        word.removeprefix("--")
        for word, action in parser._option_string_actions.items()
        if word.startswith("--") and not isinstance(action, argparse._HelpAction)
    }
    for name, value in given.items():
        for text in value if isinstance(value, list) else [value]:
            words += _words(parser, name, None if text is True else str(text))
    for option in further:
        name, equals, text = option.partition("=")
        if name not in known:
            raise SettingsError(
                f"--dataflow_option must name an option of Beam's, got {name}; "
                f"{nearest(name, known)}"
            )
        words += _words(parser, name, text if equals else None)
    return tuple(words)


def beam_parser() -> argparse.ArgumentParser:
    """Beam's parser of all its options; ArgumentError where it would end the process."""
    made: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=made.append)
    made[0].exit_on_error = False
    return made[0]


def _words(parser: argparse.ArgumentParser, name: str, value: str | None) -> list[str]:
    """An option as Beam takes it; a value of None: it was named alone."""
    action = parser._option_string_actions[f"--{name}"]
    if action.nargs == 0:
        if value is None or value.lower() == "true":
            return [f"--{name}"]
        if value.lower() == "false":
            return _opposite(parser, action)
        raise SettingsError(f"--{name} must be true or false, got {value!r}")
    word = f"--{name}" if value is None else f"--{name}={value}"
    try:
        parser.parse_known_args([word])
    except argparse.ArgumentError as error:
        got = "nothing" if value is None else repr(value)
        raise SettingsError(
            f"--{name} must be what Beam takes, got {got} ({error.message})"
        ) from error
    return [word]


def _opposite(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """The switch that says the contrary, such as `--no_use_public_ips`; none where Beam takes the
    contrary for granted.

    Raises:
      SettingsError: Beam takes the switch for granted, and has none that says the contrary.
    """
    for other in parser._actions:
        if other.nargs == 0 and other.dest == action.dest and other.const != action.const:
            return [other.option_strings[0]]
    if action.default == action.const:
        name = action.option_strings[0]
        raise SettingsError(f"{name} must be true, got 'false'; Beam has no flag to turn it off")
    return []
