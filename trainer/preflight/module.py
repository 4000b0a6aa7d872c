"""A traced step as StableHLO text: what the compiler takes, its digest, and calls of the host.

Text, not a parsed module: that would need jax, which the process with TensorFlow does without.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

# What a compiler for TPUs resolves by itself, or which tells about an op and calls nothing.
KNOWN_CALLS = frozenset(
    {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "TopK", "ApproxTopK"}
)

_COPY = re.compile(r"^\s*(%\S+) = mhlo\.copy (%\S+) : .*\n", re.MULTILINE)
_VALUE = re.compile(r"%[\w#]+")
_LOCATION_LINE = re.compile(r"^#loc\d* = loc\(.*\)\n?", re.MULTILINE)
_LOCATION = re.compile(r" loc\((?:#loc\d*|\"[^\"]*\"(?:\([^()]*\))?|unknown)\)")
_MODULE_NAME = re.compile(r"^module @\S+", re.MULTILINE)
_HOST_OP = re.compile(
    r"stablehlo\.(custom_call|infeed|outfeed|send|recv)\b"
    r"(?: @(?P<bare>[\w.$]+)| @\"(?P<quoted>[^\"]+)\")?.*?(?:loc\((?P<location>#loc\d*)\))?$",
    re.MULTILINE,
)
_NAMED = re.compile(r"^(#loc\d*) = loc\((.*)\)$", re.MULTILINE)


def without_copies(text: str) -> str:
    """The same module without the `mhlo.copy` that TensorFlow puts before a variable's return.

    The compiler knows no such op. What it copied takes its place: a return copies by itself.
    """
    copied = dict(_COPY.findall(text))
    return _VALUE.sub(lambda value: copied.get(value[0], value[0]), _COPY.sub("", text))


def digest(text: str, *further: str) -> str:
    """Of what a module computes, and of further text such as the compiler's version.

    Without names and places, which count what a process has traced before.
    """
    bare = _LOCATION.sub("", _LOCATION_LINE.sub("", text))
    bare = _MODULE_NAME.sub("module @step", bare)
    return hashlib.sha256("\n".join((bare, *further)).encode()).hexdigest()[:32]


def host_calls(text: str) -> list[str]:
    """`custom_call xla_python_cpu_callback (py_function/EagerPyFunc)`, each once.

    Everything that is not computed by the device: calls, and what is fed in and out.
    """
    found: dict[str, None] = {}
    for match in _HOST_OP.finditer(text):
        target = match["bare"] or match["quoted"] or ""
        if target in KNOWN_CALLS or target.startswith(("mhlo.", "chlo.", "stablehlo.")):
            continue
        name = f"{match[1]} {target}".strip()
        place = _name_of(text, match["location"])
        found[f"{name} ({place})" if place else name] = None
    return list(found)


def _name_of(text: str, location: str | None) -> str | None:
    """The op's name behind `#loc12`: the longest of those that were fused into it."""
    places = dict(_NAMED.findall(text)) if location else {}

    def names(reference: str) -> Iterator[str]:
        for name, link in re.findall(r"\"([^\"]*)\"|(#loc\d*)", places.get(reference, "")):
            if link and link != reference:
                yield from names(link)
            elif name:
                yield name

    return max(names(location or ""), key=len, default=None)
