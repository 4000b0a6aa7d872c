"""Settings that only some kinds take: one table a family says which, and their defaults.

For `[[loss]]`, `[schedule]` and `[optimizer]`, whose dataclasses hold the settings of all their
kinds, `None` where not given. A setting given to a kind that does not take it is refused: it would
change nothing, and somebody would report figures for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.settings import nearest

Takes = Mapping[str, Mapping[str, Any]]  # kind -> its own settings and their defaults
Rule = tuple[str, Callable[[Any], bool]]  # what a setting must be, and whether a value is


def check_kind(settings: Any, takes: Takes, rules: Mapping[str, Rule]) -> None:
    """Raises ValueError for an unknown kind, a value against its rule, or another kind's setting.

    Values come first: whatever the kind, a number out of range is told as that.
    """
    if settings.kind not in takes:
        raise ValueError(f"unknown kind {settings.kind!r}; {nearest(settings.kind, takes)}")
    for name, (rule, holds) in rules.items():
        value = getattr(settings, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name} must be {rule}, got {_plain(value)}")
    for name in sorted({name for own in takes.values() for name in own}):
        value = getattr(settings, name)
        if value is not None and name not in takes[settings.kind]:
            takers = ", ".join(kind for kind, own in takes.items() if name in own)
            raise ValueError(
                f"{name} must be left out with kind {settings.kind!r}, got {_plain(value)}; "
                f"it belongs to {takers}"
            )


def own_settings(settings: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `defaults` names, as given or else by default."""
    return {
        name: default if (given := getattr(settings, name)) is None else given
        for name, default in defaults.items()
    }


def _plain(value: Any) -> Any:
    """As TOML writes it: lists, not tuples; text in quotes."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return repr(value) if isinstance(value, str) else value
