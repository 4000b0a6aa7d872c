"""A traced step as StableHLO text: what the compiler takes, its digest, calls of the host, and the
largest maps.

Text, not a parsed module: that would need jax, which the process with TensorFlow does without.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterator

from pipeline.errors import DataError

EVALUATION = "evaluation"

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
_MAP = re.compile(
    r"stablehlo\.convolution\(.*-> tensor<([\dx]+)x[a-z]+(\d+)> loc\((#loc\d*)\)$", re.MULTILINE
)
_IN_GRADIENT = "gradient_tape"
_NAMED = re.compile(r"^(#loc\d*) = loc\((.*)\)$", re.MULTILINE)


class HostOpError(DataError):
    """A step that would wait for the host, or ask it to compute."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One program of a core."""

    name: str  # `training`, `training, stage 2`, EVALUATION
    stablehlo: str


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
    places = dict(_NAMED.findall(text))
    for match in _HOST_OP.finditer(text):
        target = match["bare"] or match["quoted"] or ""
        if target in KNOWN_CALLS or target.startswith(("mhlo.", "chlo.", "stablehlo.")):
            continue
        name = f"{match[1]} {target}".strip()
        place = _longest_name(places, match["location"] or "")
        found[f"{name} ({place})" if place else name] = None
    return list(found)


def largest_maps(text: str, count: int) -> list[tuple[str, int]]:
    """Names and bytes of the largest maps that convolutions make on the way to the loss.

    They have to lie in memory, which maps made element by element need not.
    """
    places = dict(_NAMED.findall(text))
    found: dict[str, int] = {}
    for shape, bits, location in _MAP.findall(text):
        name = _longest_name(places, location) or "a convolution"
        if _IN_GRADIENT not in name:
            size = math.prod(map(int, shape.split("x"))) * int(bits) // 8
            found[name] = max(found.get(name, 0), size)
    return sorted(found.items(), key=lambda item: -item[1])[:count]


def _longest_name(places: dict[str, str], location: str) -> str | None:
    """The op's name behind `#loc12`: the longest of those that were fused into it, no file's."""

    def names(reference: str) -> Iterator[str]:
        for name, link in re.findall(r"\"([^\"]*)\"(?!:\d)|(#loc\d*)", places.get(reference, "")):
            if link and link != reference:
                yield from names(link)
            elif name:
                yield name

    return max(names(location), key=len, default=None)
