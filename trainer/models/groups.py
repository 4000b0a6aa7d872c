"""A model's layers in named groups, for whoever freezes some or gives them rates of their own.

Groups go by names: `trainer.models.fusion` and `heads` begin theirs with `fusion_` and `head_`, a
backbone its blocks' with `block` and what tells them apart (`block2a_expand_conv`).
"""

from __future__ import annotations

import re
from typing import Any

_BLOCK = re.compile(r"block\d+[a-z]*(?=_)")


def layer_groups(model: Any) -> dict[str, list[Any]]:
    """Every layer in one group, groups in the order of the way from the image to the logits.

    `stem` (all before the first block), each block such as `block2a`, `top` (after the last),
    `fusion` where there is metadata, `head`. A backbone without blocks is all `stem`.
    """
    stem: list[Any] = []
    blocks: dict[str, list[Any]] = {}
    groups: dict[str, list[Any]] = {"top": [], "fusion": [], "head": []}
    for layer in model.layers:
        block = _BLOCK.match(layer.name)
        if block:
            blocks.setdefault(block[0], []).append(layer)
        elif layer.name.startswith("fusion_") or layer.name == "metadata":
            groups["fusion"].append(layer)
        elif layer.name.startswith("head_") or layer.name == "target":
            groups["head"].append(layer)
        else:
            (groups["top"] if blocks else stem).append(layer)
    groups = {"stem": stem, **blocks, **groups}
    return {name: layers for name, layers in groups.items() if layers}


def backbone_blocks(model: Any) -> list[str]:
    """Names of the backbone's groups, `stem` first: the last M are its top M blocks."""
    return [name for name in layer_groups(model) if name not in ("fusion", "head")]
