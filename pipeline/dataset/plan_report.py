"""Plans and record sets as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import storage
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import Manifest, PartInfo

_MOST_CLASSES = 8  # further ones would not fit a line


def describe_parts(parts: Sequence[PartInfo], label: LabelInfo, dropped: int) -> str:
    """One line a part: images, groups, images of each class; then what to know about them."""
    classes = label.classes[:_MOST_CLASSES]
    lines = [["part", "images", "groups", *classes]]
    for part in parts:
        counts = [part.classes.get(name, 0) for name in classes]
        lines.append([part.part, *(f"{n:,}" for n in (part.examples, part.groups, *counts))])
    whole = [sum(part.examples for part in parts), sum(part.groups for part in parts)]
    whole += [sum(part.classes.get(name, 0) for part in parts) for name in classes]
    lines.append(["all", *(f"{total:,}" for total in whole)])
    notes = []
    if len(label.classes) > len(classes):
        notes.append(f"{len(label.classes) - len(classes)} further classes are not shown")
    if dropped:
        notes.append(f"{dropped:,} rows were left out, as --drop or --fold_column asks")
    if all(part.groups == part.examples for part in parts):
        notes.append(
            "every image is its own group: leakage between images of one patient is not checked"
        )
    return "\n".join([align(lines), *notes])


def describe_sizes(output: str, manifests: Sequence[Manifest], failed: int) -> str:
    """One line a record set: its folder, examples, shards and megabytes; then what failed."""
    lines = [["records", "images", "shards", "MB"]]
    for manifest in manifests:
        megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
        examples = sum(part.examples for part in manifest.parts)
        folder = storage.join(output, str(manifest.size))
        lines.append([folder, f"{examples:,}", f"{len(manifest.shards):,}", f"{megabytes:,.1f}"])
    notes = []
    if failed:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in manifests[0].failures.items())
        notes = [f"{failed:,} rows failed ({reasons}): {storage.join(output, 'failed.csv')}"]
    return "\n".join([align(lines), *notes])


def align(lines: Sequence[Sequence[str]]) -> str:
    """Columns under one another: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = []
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        padded.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(padded)
