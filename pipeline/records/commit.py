"""From finished shards to a complete record set: failed rows, row table, TFDS files, manifest.

Called by `beam_jobs.make_records` once every shard of a size is done. The manifest is written last:
while it is missing, whoever opens the folder is told that the set is not complete.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.metadata
import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.dataset.plan import Plan, count_part
from pipeline.errors import DataError
from pipeline.images.render import RenderSpec
from pipeline.records.done import (
    Failure,
    ShardDone,
    codec_versions,
    discard_size,
    read_done,
    size_folder,
    size_name,
)
from pipeline.records.features import table_column, with_role
from pipeline.records.manifest import Manifest, ShardInfo, write_manifest, write_rows
from pipeline.records.tfds import write_tfds_metadata

# Keys of the spec that are paths.
_PATHS = (
    ("table", "csv"), ("folders", "root"), ("values", "npy"),
    ("folds", "drop"), ("folds", "join_groups"),
)  # fmt: skip


def commit_size(
    output: str,
    size: int | None,
    plan: Plan,
    rows: pd.DataFrame,
    spec: RenderSpec,
    max_failures: float,
    over: storage.Version | None = None,
) -> Manifest:
    """Completes the record set of one size; `rows` are the plan's.

    `max_failures` is the share of them that may have failed; the manifest says when more did.
    `over` is the manifest that may be there, as `write_manifest` says.
    """
    dones = [read_done(output, size, shard.file) for shard in plan.shards]
    failed = {failure.row for done in dones for failure in done.failures}
    written = rows[~rows["row"].isin(failed)].sort_values("row")
    mean, std = pixel_statistics(dones)
    reasons = collections.Counter(f.reason for done in dones for f in done.failures)
    manifest = Manifest(
        name=plan.name,
        size=size,
        features=plan.features,
        label=plan.label,
        parts=tuple(count_part(written, part.part, plan.label) for part in plan.parts),
        shards=tuple(
            ShardInfo(
                file=done.file, part=shard.part, examples=done.examples,
                bytes=done.bytes, sha256=done.sha256,
            )
            for shard, done in zip(plan.shards, dones, strict=True)
        ),
        plan_digest=plan.digest,
        render_digest=dones[0].render_digest,
        spec=_without_folders(plan),
        failures=dict(sorted(reasons.items())),
        failures_over_limit=len(failed) > max_failures * len(rows),
        pixel_mean=mean,
        pixel_std=std,
        versions=_versions(),
        render=dataclasses.asdict(spec),
        enlarged=sum(done.enlarged for done in dones),
    )  # fmt: skip
    folder = size_folder(output, size)
    looked_up = [*with_role(plan.features, "category"), *with_role(plan.features, "number")]
    columns = ["row", "id", "group", "part", "fold", "target"]
    write_rows(folder, written[columns + [table_column(feature.name) for feature in looked_up]])
    write_tfds_metadata(folder, manifest)
    write_manifest(folder, manifest, over)
    return manifest


def refuse_empty(output: str, size: int | None, plan: Plan, rows: pd.DataFrame) -> None:
    """Raises DataError where all rows failed, and forgets the shards that hold none of them.

    So that the same command reads the images again, once they are where it looks.
    """
    failures = [f for shard in plan.shards for f in read_done(output, size, shard.file).failures]
    if len(failures) < len(rows):
        return
    reasons = collections.Counter(failure.reason for failure in failures)
    found = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    discard_size(output, size)
    raise DataError(
        f"{output}: at size {size_name(size)} a row or more must make a record, got {found} of "
        f"{len(rows):,}; see failed.csv there, and mend --images, the paths or the size"
    )


def write_failed(output: str, sizes: Sequence[int | None], plan: Plan, rows: pd.DataFrame) -> int:
    """Writes `OUT/failed.csv`: id, path, reason, what was found, and the sizes that lack the row.

    Returns the number of rows in it.
    """
    failures: dict[int, Failure] = {}
    lacking: dict[int, list[str]] = collections.defaultdict(list)
    for size in sizes:
        for shard in plan.shards:
            for failure in read_done(output, size, shard.file).failures:
                failures[failure.row] = failure
                lacking[failure.row].append(size_name(size))
    write_failed_rows(storage.join(output, "failed.csv"), rows, failures, lacking)
    return len(failures)


def write_failed_rows(
    path: str,
    rows: pd.DataFrame,
    failures: Mapping[int, Failure],
    lacking: Mapping[int, Sequence[str]],
) -> None:
    """Writes a table of failed rows; `rows` has row, id and path, `lacking` the sizes by row."""
    failed = rows.loc[rows["row"].isin(list(failures)), ["row", "id", "path"]].sort_values("row")
    failed["reason"] = [failures[row].reason for row in failed["row"]]
    failed["found"] = [failures[row].text for row in failed["row"]]
    failed["sizes"] = [" ".join(lacking[row]) for row in failed["row"]]
    buffer = io.StringIO()
    failed.drop(columns="row").to_csv(buffer, index=False, lineterminator="\n")
    storage.write_text(path, buffer.getvalue())


def pixel_statistics(
    dones: Sequence[ShardDone],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel, in [0, 1], over every pixel of a size.

    From counts of values, which are whole numbers: equal however the shards were written.
    """
    counts = np.sum([np.array(done.pixel_counts, np.int64) for done in dones], axis=0)
    values = np.arange(256) / 255
    pixels = counts.sum(axis=1)
    if not pixels.all():
        return (0.0,) * 3, (0.0,) * 3
    mean = counts @ values / pixels
    variance = counts @ values**2 / pixels - mean**2
    return tuple(map(float, mean)), tuple(map(float, np.sqrt(np.maximum(variance, 0))))


def _without_folders(plan: Plan) -> dict[str, object]:
    """The spec with the names of its files but not their folders, which say nothing elsewhere."""
    spec = {name: dict(v) if isinstance(v, dict) else v for name, v in plan.spec.items()}
    for table, key in _PATHS:
        if key in spec.get(table, {}):
            spec[table][key] = PurePath(spec[table][key]).name
    return spec


def _versions() -> dict[str, str]:
    return {
        "foldstream": importlib.metadata.version("foldstream"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **codec_versions(),
    }
