"""The folder of a run: `config.toml`, `records.json`, a `foldK/` each, and which are complete.

A fold is complete when its predictions carry the digests of this recipe on these records; they are
written last, and withdrawn before the fold is trained again. So whatever an older recipe, older
shards or a killed process left behind is never taken for a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.predictions import (
    PREDICTIONS_NAME,
    Predictions,
    concatenate,
    read_predictions,
    write_predictions,
)
from pipeline.records.manifest import Manifest
from pipeline.settings import differences, load_toml, to_tables, to_toml
from trainer.folds import FoldParts

if TYPE_CHECKING:
    from trainer.baselines.fold_run import Baseline
    from trainer.config import Config

CONFIG_NAME = "config.toml"
LOCK_NAME = "training.lock"
RECORDS_NAME = "records.json"
METRICS_NAME = "metrics.jsonl"
NAN_BATCH_NAME = "nan_batch.csv"  # row and id of the batch on which training failed

_FOLD = re.compile(r"(?P<run>.*?)/+fold(?P<number>\d+)/*")
_OLDER = {
    "shards_digest": "the records' shards have changed",
    "init_digest": "the run that it starts from was trained again",
}

Digests = Mapping[str, str]


def fold_digests(config: Config | Baseline, manifest: Manifest, fold: FoldParts) -> dict[str, str]:
    """What a fold's predictions follow from: recipe, plan, rendering, and the shards it reads.

    The shards count beside plan and rendering, for an image that was mended changes neither; and
    where the fold starts from another run's, the predictions of that, while they are there.
    """
    shards = manifest.shards_of((*fold.train, *fold.validation))
    initial = {}
    if init := getattr(config, "init", None):
        path = storage.join(initial_fold(init, fold.number), PREDICTIONS_NAME)
        if storage.exists(path):
            initial["init_digest"] = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    return {
        "recipe_digest": _sha256(to_toml(config)),
        "plan_digest": manifest.plan_digest,
        "render_digest": manifest.render_digest,
        "shards_digest": _sha256("\n".join(shard.sha256 for shard in shards)),
        **initial,
    }


def fold_folder(run: str, number: int) -> str:
    """`RUN/foldK`."""
    return storage.join(run, f"fold{number}")


def initial_fold(init: str, number: int) -> str:
    """The `RUN/foldK` that `init` names for a fold: that one, or of a run its same fold."""
    named = _FOLD.fullmatch(init)
    return fold_folder(named["run"], int(named["number"])) if named else fold_folder(init, number)


def checkpoint_folder(run: str, number: int) -> str:
    """`RUN/foldK/checkpoints`, or `foldK` in the folder that Vertex AI names."""
    return _vertex_folder("AIP_CHECKPOINT_DIR", number) or storage.join(
        fold_folder(run, number), "checkpoints"
    )


def tensorboard_folder(run: str, number: int) -> str:
    """`RUN/foldK/tensorboard`, or `foldK` in the folder that Vertex AI names."""
    return _vertex_folder("AIP_TENSORBOARD_LOG_DIR", number) or storage.join(
        fold_folder(run, number), "tensorboard"
    )


def start_run(run: str, config: Config | Baseline, manifest: Manifest) -> None:
    """Writes what the run is of: the resolved recipe, which records, and how they were made."""
    records = json.dumps({**_identity(manifest), **_made(manifest)}, indent=1) + "\n"
    storage.write_text(storage.join(run, RECORDS_NAME), records)
    storage.write_text(storage.join(run, CONFIG_NAME), to_toml(config))


def refuse_another_run(run: str, config: Config | Baseline, manifest: Manifest) -> None:
    """Raises SettingsError when the folder holds a run of other records or of another recipe.

    The message names what differs. Records whose shards alone differ (rows of theirs were mended)
    are the same records.
    """
    path = storage.join(run, RECORDS_NAME)
    if storage.exists(path):
        there, identity = json.loads(storage.read_text(path)), _identity(manifest)
        there = {key: value for key, value in there.items() if key in identity}
        _refuse(run, "records", differences(there, identity))
    path = storage.join(run, CONFIG_NAME)
    if storage.exists(path):
        _refuse(run, "config", differences(load_toml(path), to_tables(config)))


def records_made(run: str, manifest: Manifest | None = None) -> dict[str, Any] | None:
    """The size of the run's records, how they were rendered, and their spec.

    A run of an older version does not know them: of those the manifest must be given, else None.
    SettingsError where it is of other records.
    """
    there = json.loads(storage.read_text(storage.join(run, RECORDS_NAME)))
    if manifest is not None:
        identity = _identity(manifest)
        differing = differences({key: there.get(key) for key in identity}, identity)
        if differing:
            raise SettingsError(f"--records must be the run's own, got other {differing[0]}")
        there |= _made(manifest)
    keys = ("size", "render", "spec")
    return {key: there[key] for key in keys} if all(key in there for key in keys) else None


def withdraw_fold(run: str, number: int) -> None:
    """Removes the predictions of a fold and of the run, which say "complete", before training."""
    storage.remove(storage.join(run, PREDICTIONS_NAME))
    storage.remove(storage.join(fold_folder(run, number), PREDICTIONS_NAME))


@contextlib.contextmanager
def alone_in_folds(run: str, numbers: Iterable[int]) -> Iterator[None]:
    """Within it no other process trains these folds of the run.

    Raises SettingsError while one does. Other folds of the same run may be trained elsewhere.
    """
    with contextlib.ExitStack() as stack:
        for number in numbers:
            folder = fold_folder(run, number)
            try:
                stack.enter_context(storage.locked(storage.join(folder, LOCK_NAME)))
            except BlockingIOError as error:
                raise SettingsError(
                    f"{folder}: no other process must train this fold, got one that does; wait for "
                    "it, name other --folds, or give another --run"
                ) from error
        yield


def clear_fold(run: str, number: int) -> None:
    """Removes what training a fold has left, so that it starts from its first step."""
    withdraw_fold(run, number)
    for folder in (checkpoint_folder(run, number), tensorboard_folder(run, number)):
        storage.remove_tree(folder)
    for name in (METRICS_NAME, NAN_BATCH_NAME):
        storage.remove(storage.join(fold_folder(run, number), name))


def finished_fold(run: str, number: int, digests: Digests) -> Predictions | None:
    """The predictions of a complete fold of these digests, else None."""
    predictions = _read_fold(run, number)
    return predictions if predictions and not _differing(predictions, digests) else None


def changed_since(run: str, number: int, digests: Digests) -> str | None:
    """What changed since a fold was complete: its shards, the run that it starts from, or both."""
    predictions = _read_fold(run, number)
    differing = _differing(predictions, digests) if predictions else []
    if not differing or not {*differing} <= {*_OLDER}:
        return None
    return " and ".join(_OLDER[name] for name in differing)


def gather_folds(run: str, digests: Mapping[int, Digests]) -> Predictions:
    """Writes `RUN/predictions.parquet` of every complete fold, in order of row, and returns it.

    `digests` holds those of each fold of the run, by its number.
    """
    found = (finished_fold(run, number, of_fold) for number, of_fold in digests.items())
    parts = [predictions for predictions in found if predictions is not None]
    about = {**parts[0].run, "folds": [part.run["fold"] for part in parts]}
    selected_on = [name for part in parts for name in part.run.get("selected_on", [])]
    merged = concatenate(parts, {**about, "selected_on": selected_on} if selected_on else about)
    write_predictions(storage.join(run, PREDICTIONS_NAME), merged)
    return merged


def _read_fold(run: str, number: int) -> Predictions | None:
    folder = fold_folder(run, number)
    if not storage.exists(storage.join(folder, PREDICTIONS_NAME)):
        return None
    if not storage.list_names(checkpoint_folder(run, number)):
        return None
    return read_predictions(folder)


def _differing(predictions: Predictions, digests: Digests) -> list[str]:
    about = predictions.run
    # A fold of before `init` was pinned does not say what it started from: it is taken at its word.
    known = {name: digest for name, digest in digests.items()
             if name in about or name != "init_digest"}  # fmt: skip
    return [name for name, digest in known.items() if about.get(name) != digest]


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "classes": list(manifest.label.classes),
        "plan_digest": manifest.plan_digest,  # table, labels, parts and seed
        "render_digest": manifest.render_digest,  # size, fit and quality
    }


def _made(manifest: Manifest) -> dict[str, Any]:
    return {"size": manifest.size, "render": manifest.render, "spec": manifest.spec}


def _vertex_folder(variable: str, number: int) -> str | None:
    folder = os.environ.get(variable)
    return storage.join(folder, f"fold{number}") if folder else None


def _refuse(run: str, what: str, differing: list[str]) -> None:
    if differing:
        raise SettingsError(
            f"{run}: {what} must be what the run was started with, got other "
            f"{', '.join(differing)}; give another --run, or --fresh to start this one afresh"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
