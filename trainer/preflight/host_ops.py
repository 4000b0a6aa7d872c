"""Ops of a traced step that no compiler for TPUs takes: they would run on the host, step by step.

TensorFlow places such an op outside the compiled program without a word, and the device waits for
it. XLA's kernels for the CPU stand in for those of a TPU: of the ops, both have the same.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels

_ARGUMENT = "Placeholder"
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/trainer/preflight/")


def host_ops(graph: Any) -> list[str]:
    """`EagerPyFunc py_func (mix.py:12)`: kind, name, and the line of ours that made it.

    Of a `FuncGraph`, and in the functions that it calls.
    """
    # XLA's kernels are registered when it is first asked for something.
    tf.function(lambda x: x + x, jit_compile=True).experimental_get_compiler_ir(tf.constant(0.0))()
    compiles: dict[str, bool] = {_ARGUMENT: True}
    graphs, found = [graph], dict[str, None]()
    while graphs:
        graph = graphs.pop()
        for operation in graph.get_operations():
            kind = operation.type
            if kind not in compiles:
                compiles[kind] = _compiles(kind)
            if not compiles[kind]:
                found[f"{kind} {operation.name}{_line_of(operation)}"] = None
        graphs += [function.graph for function in graph._functions.values()]
    return sorted(found)


def _compiles(kind: str) -> bool:
    registered = kernels.get_registered_kernels_for_op(kind).kernel
    return any(kernel.device_type == "XLA_CPU_JIT" for kernel in registered)


def _line_of(operation: Any) -> str:
    for frame in reversed(operation.traceback or []):
        if not any(library in frame.filename for library in _LIBRARIES):
            return f" ({frame.filename.rpartition('/')[2]}:{frame.lineno})"
    return ""
