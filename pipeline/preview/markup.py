"""HTML that is escaped where it is made: an id that holds `<script>` stays text.

`tag` escapes every child and attribute that is not markup of its own making; no other function of
the preview writes an angle bracket.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

_VOID = ("img", "meta")
# No script, no request: what a browser is told not to do, markup that got in could not do either.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is HTML already. Joined with other text it is a plain `str`, which is escaped."""

    __slots__ = ()


def tag(name: str, attributes: Mapping[str, str | float] | None = None, *children: str) -> Markup:
    """An element; numbers in attributes have two decimals at most."""
    inside = "".join(map(_escaped, children))
    pairs = "".join(f' {key}="{_value(value)}"' for key, value in (attributes or {}).items())
    return Markup(f"<{name}{pairs}>" + ("" if name in _VOID else f"{inside}</{name}>"))


def document(title: str, style: str, *body: Markup) -> str:
    """A whole HTML page that asks for nothing outside itself. `style` is our own, never data."""
    head = tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", None, title),
        tag("style", None, Markup(style)),
    )
    return f"<!doctype html>\n{tag('html', {'lang': 'en'}, head, tag('body', None, *body))}\n"


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(text)


def _value(value: str | float) -> str:
    return html.escape(value) if isinstance(value, str) else f"{round(value, 2):g}"
