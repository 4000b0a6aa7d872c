"""The folder `OUTPUT.shards`: what a scoring that was killed goes on from.

    plan.json         what the scores follow from; another command is refused
    plan.parquet      the rows, a row group a shard
    00003.parquet     the scores of a shard, each row once
    00003.json        written after it: length and SHA-256, and the rows that failed

Removed when the output is written, by the process that holds its lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.dataset.plan import write_plan_rows
from pipeline.errors import DataError, SettingsError
from pipeline.records.done import Failure, codec_versions, is_whole
from pipeline.settings import differences

_PLAN_NAME = "plan.json"
_LOCK_NAME = "scoring.lock"
_REMOVERS = 16  # threads; on gs:// each file is a request
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu")


class WorkError(DataError):
    """There is the work of another command."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardScores:
    """The scores of one shard: float64 [N, L] for the N rows that have a picture."""

    rows: list[int]
    logits: npt.NDArray[np.float64]
    probs: npt.NDArray[np.float64]
    failures: list[Failure]


def work_folder(output: str) -> str:
    """Where the shards of an output are until it is written."""
    return f"{output}.shards"


@contextlib.contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Within it no other process scores into the folder; SettingsError while one does."""
    try:
        with storage.locked(storage.join(folder, _LOCK_NAME)):
            yield
    except BlockingIOError as error:
        raise SettingsError(
            f"{folder}: no other process must score to this --output, got one that does; wait for "
            "it, or give another --output"
        ) from error


def clear_work(folder: str) -> None:
    """Removes what is in the folder, but for the lock that is held."""
    paths = [
        storage.join(folder, name) for name in storage.list_names(folder) if name != _LOCK_NAME
    ]
    with ThreadPoolExecutor(_REMOVERS) as pool:
        for _ in pool.map(storage.remove, paths):
            pass


def remove_work(folder: str) -> None:
    """Removes the folder, whose lock is held."""
    clear_work(folder)
    if not storage.is_remote(folder):  # there it is an object, which goes when it is let go of
        storage.remove_tree(folder)


def cut_rows(rows: int, rows_per_shard: int) -> list[int]:
    """The number of rows of each shard, equal but for one."""
    count = -(-rows // rows_per_shard)
    return [rows // count + (index < rows % count) for index in range(count)]


def claim_work(
    folder: str,
    rows: pd.DataFrame,
    shards: list[int],
    settings: Mapping[str, Any],
    *,
    may_replace: bool = False,
) -> str:
    """Writes what the scores follow from, and the rows; the digest of it.

    What was begun with other rows, models or settings is removed first if it may be replaced.

    Raises:
      WorkError: it was begun with other rows, models or settings.
    """
    table = pd.util.hash_pandas_object(rows, index=False).to_numpy().astype("<u8").tobytes()
    plan = {
        **settings,
        "rows": len(rows),
        "table": hashlib.sha256(repr([*rows.columns]).encode() + table).hexdigest(),
        "shards": len(shards),
        "versions": {**codec_versions(), **_tensorflow_version()},
    }
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    path = storage.join(folder, _PLAN_NAME)
    if not storage.write_new(path, text):
        try:
            there = json.loads(storage.read_bytes(path))
        except ValueError:
            there = {}
        differing = differences(there, json.loads(text))
        if differing and may_replace:
            clear_work(folder)
            storage.write_text(path, text)
        elif differing:
            raise WorkError(
                f"{folder}: the scoring that was begun must be the one that is asked for, got "
                f"other {', '.join(differing)}; write to another --output, or give --overwrite to "
                "start this one afresh"
            )
    write_plan_rows(folder, rows, shards)
    return hashlib.sha256(text.encode()).hexdigest()


def write_scores(folder: str, shard: int, scores: ShardScores, digest: str) -> None:
    """Writes what was scored of a shard, then that it is done."""
    columns: dict[str, Any] = {"row": np.array(scores.rows, np.int64)}
    for place in range(scores.logits.shape[1]):
        columns[f"logit_{place}"] = scores.logits[:, place]
        columns[f"prob_{place}"] = scores.probs[:, place]
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    data = buffer.getvalue()
    storage.write_bytes(_scores_path(folder, shard), data)
    done = {
        "digest": digest,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "failures": [dataclasses.asdict(failure) for failure in scores.failures],
    }
    storage.write_text(_done_path(folder, shard), json.dumps(done) + "\n")


def find_scores(folder: str, shard: int, digest: str) -> ShardScores | None:
    """The scores of a shard that is there whole and of this plan, else None."""
    try:
        done = json.loads(storage.read_bytes(_done_path(folder, shard)))
        data = storage.read_bytes(_scores_path(folder, shard))
        if done["digest"] != digest or not is_whole(data, done["bytes"], done["sha256"]):
            return None
        failures = [Failure(**failure) for failure in done["failures"]]
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # not done, or damaged
        return None
    frame = pd.read_parquet(io.BytesIO(data))
    logits, probs = (
        frame[[name for name in frame.columns if name.startswith(f"{kind}_")]].to_numpy()
        for kind in ("logit", "prob")
    )
    return ShardScores(rows=frame["row"].tolist(), logits=logits, probs=probs, failures=failures)


def count_failures(folder: str, shard: int) -> int | None:
    """How many rows of a shard failed; None while it is not done."""
    try:
        return len(json.loads(storage.read_bytes(_done_path(folder, shard)))["failures"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _scores_path(folder: str, shard: int) -> str:
    return storage.join(folder, f"{shard:05d}.parquet")


def _done_path(folder: str, shard: int) -> str:
    return storage.join(folder, f"{shard:05d}.json")


def _tensorflow_version() -> dict[str, str]:
    for name in _TENSORFLOWS:
        try:
            return {"tensorflow": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return {}
