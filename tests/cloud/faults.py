"""What the gateway breaks: which requests, how, and how often it was met."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal[
    "status",  # an answer of that status, and nothing done
    "delay",  # the answer comes late
    "reset_upload",  # the connection breaks when half of the request is read
    "lose_answer",  # it breaks when all is done and nothing is said
    "reset_download",  # it breaks in the middle of the answer
    "truncate",  # the answer ends early, in peace
]


@dataclasses.dataclass
class Fault:
    """Of the requests that `match` finds ("METHOD /path?query"), the first `burst` of `every`."""

    kind: Kind
    match: str = ""
    every: int = 1
    burst: int = 1
    times: int | None = None  # at most; None: for ever
    status: int = 503
    seconds: float = 2.0
    seen: int = 0
    met: int = 0

    def meets(self, request: str) -> bool:
        """Whether it breaks this request, which it counts."""
        if not re.search(self.match, request):
            return False
        self.seen += 1
        if (self.seen - 1) % self.every >= self.burst or self.met == self.times:
            return False
        self.met += 1
        return True


class Faults:
    """Those in force; asked by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.replace([])

    def replace(self, faults: Sequence[Fault]) -> None:
        """From now on these alone."""
        with self._lock:
            self._faults, self._requests = list(faults), []

    def meet(self, request: str) -> Fault | None:
        """The fault that breaks a request, if one does."""
        with self._lock:
            self._requests.append(request)
            return next((fault for fault in self._faults if fault.meets(request)), None)

    def told(self) -> dict[str, Any]:
        """How often each was met, and the requests since they are in force."""
        with self._lock:
            return {"met": [fault.met for fault in self._faults], "requests": self._requests}
