"""The TPU compiler as a function: a module and a type of TPU to a verdict, kept on disk.

It runs in a process of its own (`compile_process`), bounded in time: on some modules it aborts. A
verdict is kept by the digest of what the module computes, the compiler's version and the type.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from trainer.preflight.module import digest, without_copies
from trainer.preflight.tpu_types import TPU_TYPES

_PACKAGES = ("jax", "jaxlib", "libtpu")  # the extra `preflight`
_UNITS = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}
_USED = re.compile(r"\(([\d.]+)([KMG]?)\) exceeds available HBM \(([\d.]+)([KMG]?)\)")
_OP_NAME = re.compile(r'op_name="([^"]+)"')
_LAST_LINES = 3  # of what a compiler that crashed said
# No server is asked what TPU this machine has, several processes may compile, and no log is kept.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "JAX_PLATFORMS": "cpu",
}


class CompilerError(DataError):
    """The compiler gave no answer: it crashed, or took too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the compiler says of a step on one core: figures, or a refusal in its own words."""

    refusal: str | None = None
    argument_bytes: int = 0  # weights, optimizer, batch
    output_bytes: int = 0
    shared_bytes: int = 0  # of the outputs, those that take an argument's place
    temporary_bytes: int = 0
    code_bytes: int = 0
    cycles: float = 0.0  # of a step: the compiler's own guess, which no other figure here enters
    flops: float = 0.0  # of a step
    moved_bytes: float = 0.0  # of a step, between the core and its memory
    seconds: float = 0.0  # that compiling took

    @property
    def memory_bytes(self) -> float:
        """Of the core's memory, in use at once.

        Of a step that does not fit, as much as the compiler tells: its temporaries.
        """
        if (used := _used(self.refusal)) is not None:
            return used[0]
        needed = self.argument_bytes + self.output_bytes - self.shared_bytes
        return needed + self.temporary_bytes + self.code_bytes

    @property
    def granted_bytes(self) -> float | None:
        """The memory that the compiler grants it, as told where a step does not fit."""
        used = _used(self.refusal)
        return used and used[1]

    @property
    def is_too_large(self) -> bool:
        """Refused for the core's memory alone: with fewer examples it may fit."""
        return _used(self.refusal) is not None

    @property
    def refused_ops(self) -> list[str]:
        """The ops of ours that the refusal names, as TensorFlow's graph calls them."""
        return list(dict.fromkeys(_OP_NAME.findall(self.refusal or "")))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiler:
    """Compiles for one type of TPU; verdicts stay in `cache_folder`."""

    tpu_type: str
    cache_folder: str
    timeout_s: float

    def verdict(self, stablehlo: str) -> Verdict:
        """The verdict on a module of StableHLO text, compiled unless it is known.

        Raises:
          CompilerError: the compiler crashed, or was not done in `timeout_s`. Neither is kept.
        """
        stablehlo = without_copies(stablehlo)
        fields = " ".join(field.name for field in dataclasses.fields(Verdict))
        name = digest(stablehlo, self.tpu_type, compiler_version(), fields)
        path = storage.join(self.cache_folder, f"{name}.json")
        if storage.exists(path):
            return Verdict(**json.loads(storage.read_text(path)))
        verdict = self._compile(stablehlo)
        storage.write_text(path, json.dumps(dataclasses.asdict(verdict), indent=1) + "\n")
        return verdict

    def _compile(self, stablehlo: str, program: str | None = None) -> Verdict:
        tpu = TPU_TYPES[self.tpu_type]
        order = {"topology": tpu.topology, "chip_config": tpu.chip_config, "program": program}
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name, file) for file in ("module.mlir", "order.json", "answer.json")]
            files[0].write_text(stablehlo, encoding="utf-8")
            files[1].write_text(json.dumps(order), encoding="utf-8")
            done = self._run(files)
            if done.returncode or not files[2].exists():
                raise CompilerError(f"{self.tpu_type}: {_crash(done)}")
            return Verdict(**json.loads(files[2].read_text(encoding="utf-8")))

    def _run(self, files: Sequence[Path]) -> subprocess.CompletedProcess[bytes]:
        program = "trainer.preflight.compile_process"
        command = [sys.executable, "-m", program, str(os.getpid()), *map(str, files)]
        try:
            return subprocess.run(
                command,
                env={**os.environ, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CompilerError(
                f"{self.tpu_type}: the compiler must be done in {self.timeout_s:.0f} s, got no "
                "answer; give a larger --timeout_s"
            ) from error


def compiler_version() -> str:
    """`jaxlib 0.10.2, libtpu 0.0.51`.

    Raises:
      SettingsError: the extra is not installed.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise SettingsError(
                f"the TPU compiler must be installed, got no package {package}; run "
                "pip install -c constraints.txt -e '.[preflight]'"
            ) from error
    return f"jaxlib {versions['jaxlib']}, libtpu {versions['libtpu']}"


def _crash(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    said = " | ".join(lines[-_LAST_LINES:]) or "nothing"
    ended = (
        f"was ended by {signal.Signals(-done.returncode).name}"
        if done.returncode < 0
        else f"left with exit code {done.returncode}"
    )
    return f"the compiler must answer, but {ended}; its last words: {said}"


def _used(refusal: str | None) -> tuple[float, float] | None:
    """Bytes that are needed and bytes that are granted, of a refusal that tells them."""
    told = _USED.search(refusal or "")
    if told is None:
        return None
    used, used_unit, granted, granted_unit = told.groups()
    return float(used) * _UNITS[used_unit], float(granted) * _UNITS[granted_unit]
