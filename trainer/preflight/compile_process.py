"""Compiles a StableHLO module for a TPU that is not there: arguments PARENT MODULE ORDER ANSWER.

`trainer.preflight.compiler`, whose process id is PARENT, starts it, for the compiler may end its
process. MODULE is StableHLO text, ORDER the JSON of a `TpuType`'s topology, ANSWER where the JSON
of a `Verdict`'s fields goes. jax lends the way to the compiler; it traces and runs nothing.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.children import end_with_parent

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def main(argv: list[str]) -> int:
    """Writes the answer; a module that is refused is an answer too."""
    module_path, order_path, answer_path = map(Path, argv)
    order = json.loads(order_path.read_text(encoding="utf-8"))
    start = time.perf_counter()
    answer = compile_module(module_path.read_text(encoding="utf-8"), **order)
    answer["seconds"] = time.perf_counter() - start
    answer_path.write_text(json.dumps(answer), encoding="utf-8")
    return 0


def compile_module(
    text: str, *, topology: str, chip_config: str | None, program: str | None = None
) -> dict[str, Any]:
    """The compiler's figures for one core, or its refusal.

    `program` names a file for the optimized HLO.
    """
    from jax.experimental import topologies
    from jax.interpreters.mlir import make_ir_context
    from jaxlib import xla_client
    from jaxlib.mlir import ir

    config = {} if chip_config is None else {"chip_config_name": chip_config}
    described = topologies.get_topology_desc(topology_name=topology, platform="tpu", **config)
    core = described.devices[0]
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    with make_ir_context():
        module = ir.Module.parse(text)
        try:
            compiled = core.client.compile(module, xla_client.DeviceList((core,)), options)
        except RuntimeError as error:  # what jaxlib raises for the compiler's own refusals
            return {"refusal": str(error)}
    memory, cost = compiled.get_compiled_memory_stats(), compiled.cost_analysis()
    [optimized] = compiled.hlo_modules()
    entry = optimized.to_string().partition("\nENTRY ")[2]
    if program:
        Path(program).write_text(optimized.to_string(), encoding="utf-8")
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "shared_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "cycles": float(sum(map(int, _CYCLES.findall(entry)))),
        "flops": cost["flops"],
        "moved_bytes": cost["bytes accessed"],
    }


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
