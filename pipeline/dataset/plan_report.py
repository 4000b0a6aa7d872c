"""Plans and record sets as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import storage
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import Manifest, PartInfo
from pipeline.wording import counted

_MOST_CLASSES = 8  # further ones would not fit a line
Cell = str | int | float


def describe_parts(parts: Sequence[PartInfo], label: LabelInfo, dropped: int) -> str:
    """One line a part: images, groups, images of each class; then what to know about them."""
    notes = _class_notes(label)
    if dropped:
        notes.append(f"{counted(dropped, 'row')} left out, as --drop or --fold_column asks")
    if all(part.groups == part.examples for part in parts):
        notes.append(
            "every image is its own group: leakage between images of one patient is not checked"
        )
    return "\n".join([align(_with_sum(_part_lines(parts, label))), *notes])


def describe_sizes(output: str, manifests: Sequence[Manifest], failed: int) -> str:
    """What was written: a line a part, with shards and each size's MB; then what went wrong."""
    first = manifests[0]
    lines = _part_lines(first.parts, first.label)
    lines[0].append("shards")
    for line, part in zip(lines[1:], first.part_names, strict=True):
        line.append(len(first.shards_of([part])))
    for manifest in manifests:
        lines[0].append("MB" if manifest.size is None else f"MB at {manifest.size}")
        for line, part in zip(lines[1:], manifest.part_names, strict=True):
            line.append(sum(shard.bytes for shard in manifest.shards_of([part])) / 1e6)
    notes = _class_notes(first.label)
    folders = (storage.join(output, str(manifest.size or "values")) for manifest in manifests)
    notes.append(f"records: {', '.join(folders)}")
    if failed:
        most = max(manifests, key=lambda manifest: sum(manifest.failures.values()))
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in most.failures.items())
        notes.append(
            f"{counted(failed, 'row')} failed ({reasons}): {storage.join(output, 'failed.csv')}"
        )
    notes += [
        f"warning: {counted(manifest.enlarged, 'image')} smaller than {manifest.size} px: "
        "enlarged; --no_enlarge leaves such images out"
        for manifest in manifests
        if manifest.enlarged
    ]
    return "\n".join([align(_with_sum(lines)), *notes])


def _part_lines(parts: Sequence[PartInfo], label: LabelInfo) -> list[list[Cell]]:
    classes = label.classes[:_MOST_CLASSES]
    lines: list[list[Cell]] = [["part", "images", "groups", *classes]]
    for part in parts:
        counts = [part.classes.get(name, 0) for name in classes]
        lines.append([part.part, part.examples, part.groups, *counts])
    return lines


def _class_notes(label: LabelInfo) -> list[str]:
    further = len(label.classes) - _MOST_CLASSES
    return [f"{further} further classes are not shown"] if further > 0 else []


def _with_sum(lines: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """The cells as text, and below them a line of the columns' sums."""
    numbers = [[cell for cell in line[1:] if not isinstance(cell, str)] for line in lines[1:]]
    sums = [sum(column) for column in zip(*numbers, strict=True)]
    return [list(map(_text, line)) for line in [*lines, ["all", *sums]]]


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,.1f}" if isinstance(cell, float) else f"{cell:,}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Columns under one another: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = []
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        padded.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(padded)
