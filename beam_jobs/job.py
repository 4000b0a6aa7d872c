"""What a job is to the engine that runs it, and how one ends.

A job module of `beam_jobs` writes a `Job`; `beam_jobs.engine` runs it.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import sys
from contextlib import AbstractContextManager
from typing import Any

import apache_beam as beam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended: its exit code, what goes to stdout, and what to stderr."""

    code: int
    text: str
    complaint: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all that can be written is, though rows may have failed."""
        return self.code in (0, 3)

    def tell(self) -> int:
        """Prints the texts; the code."""
        print(self.text, end="\n" if self.text else "", flush=True)
        if self.complaint:
            print(self.complaint, file=sys.stderr)
        return self.code

    def to_json(self) -> str:
        """For `outcome_from_json`."""
        return json.dumps(dataclasses.asdict(self))


def outcome_from_json(text: str) -> Outcome:
    """What `to_json` gave."""
    return Outcome(**json.loads(text))


class Job(abc.ABC):
    """A pipeline and what comes after it.

    It is pickled into Dataflow's job graph, whose size must not depend on the data's: it holds
    paths and settings, and reads the rest from storage.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Of the entry point, such as make_records."""

    @abc.abstractmethod
    def build(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The work; every element of what it gives is something done."""

    @abc.abstractmethod
    def watch(self, *, in_one_process: bool) -> AbstractContextManager[Any]:
        """Surrounds the work where it is done here: progress, and how it is stopped."""

    @abc.abstractmethod
    def finish(self) -> Outcome:
        """After the work: on the launcher, or on Dataflow on a worker, maybe more than once.

        So it removes nothing that it reads: a second time writes the same.
        """

    def begun(self, outcome_path: str) -> None:  # noqa: B027 (most jobs need none)
        """On the launcher, once the job goes on without it; there it will say how it ended.

        A template's launcher calls it when the job is a file, which Dataflow begins afterwards.
        """

    def ended(self, outcome: Outcome | None) -> None:  # noqa: B027
        """On the launcher, when nothing of the job runs any more: removes what served it alone.

        None: it failed, and the same command is to go on. Maybe more than once.
        """
