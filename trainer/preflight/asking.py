"""The verdicts on the steps of a subject, batch by batch."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool

from pipeline.children import end_with_parent
from pipeline.errors import DataError, SettingsError
from trainer.preflight.compiler import Compiler, Verdict
from trainer.preflight.estimate import Roofline
from trainer.preflight.largest import largest_batch
from trainer.preflight.module import Step, largest_maps
from trainer.preflight.subject import Subject
from trainer.preflight.tpu_types import TPU_TYPES, TpuType
from trainer.running.stopping import Stopped

MOST_MAPS = 3
LARGEST = 4096  # examples a core: none above is tried


class TracingError(DataError):
    """The process that traces the steps ended before it was done."""


def trace(subject: Subject, batch: int, cores: int) -> list[Step]:
    """The steps for `batch` examples a core; TensorFlow starts here."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it notes CPU features
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainer.preflight.step import traced_steps

    try:
        return list(traced_steps(subject, batch=batch, cores=cores))
    except (DataError, SettingsError):
        raise
    except Exception as error:  # one of TensorFlow's would bring it along, or not get over at all
        raise RuntimeError(traceback.format_exc()) from error


def trace_apart(subject: Subject, batch: int, cores: int) -> list[Step]:
    """`trace` in a process of its own, for TensorFlow keeps what it has traced: of B3 0.7 GB.

    Raises:
      TracingError: the process was ended.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)
    ) as process:
        # Ctrl-C is for this process: the other takes over what is blocked as it starts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = process.submit(trace, subject, batch, cores)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            return future.result()
        except Stopped:
            for child in multiprocessing.active_children():
                child.kill()  # else its end would be waited for
            raise
        except BrokenProcessPool as error:
            raise TracingError(
                f"{batch} a core: the process that traces the step must finish, but was ended; "
                "was there memory enough?"
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Asking:
    """Asks a compiler what it has not been asked yet."""

    subject: Subject
    compiler: Compiler

    @property
    def tpu(self) -> TpuType:
        """For which it compiles."""
        return TPU_TYPES[self.compiler.tpu_type]

    @functools.cached_property
    def _maps(self) -> dict[int, list[tuple[str, int]]]:
        return {}

    @functools.cached_property
    def _asked(self) -> dict[int, dict[str, Roofline]]:
        return {}

    def steps(self, batch: int) -> dict[str, Roofline]:
        """By name, with `batch` examples a core: training, of each stage, and evaluation.

        Those after one that is refused are left out.
        """
        if batch in self._asked:
            return self._asked[batch]
        found = {}
        for step in trace_apart(self.subject, batch, self.tpu.cores):
            print(f"preflight: {step.name}, {batch} a core …", file=sys.stderr, flush=True)
            verdict = self.compiler.verdict(step.stablehlo)
            found[step.name] = Roofline(tpu=self.tpu, verdict=verdict, batch=batch)
            if verdict.refusal is not None:
                self._maps[batch] = largest_maps(step.stablehlo, MOST_MAPS)
                break
        self._asked[batch] = found
        return found

    def maps(self, batch: int) -> list[tuple[str, int]]:
        """Names and bytes of the largest maps of a step that was refused; see `largest_maps`."""
        return self._maps.get(batch, [])

    def worst(self, batch: int) -> Verdict:
        """The refusal, or else the verdict on the step that needs most memory."""
        verdicts = [roofline.verdict for roofline in self.steps(batch).values()]
        return max(verdicts, key=lambda v: (v.refusal is not None, v.memory_bytes))

    def largest(self) -> int | None:
        """The largest batch that fits a core; None when one example does not.

        Looked for above what was asked where all of that fits, but not above `LARGEST`.
        """
        known = {batch: self.worst(batch) for batch in self._asked}
        while all(verdict.refusal is None for verdict in known.values()):
            if (batch := 2 * max(known)) > LARGEST:
                return max(known)
            known[batch] = self.worst(batch)
        granted = [v.granted_bytes for v in known.values() if v.granted_bytes is not None]
        limit_bytes = min(granted, default=self.tpu.memory_bytes)
        return largest_batch(self.worst, known, limit_bytes=limit_bytes)
