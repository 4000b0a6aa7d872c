"""The folder of a run: `config.toml`, a `foldK/` each, and which of them are complete.

A fold is complete when its predictions carry the digest of this recipe on these records; they are
written last. So whatever an older recipe or a killed process left behind is never taken for a
result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

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
from pipeline.settings import load_toml, to_tables, to_toml
from trainer.config import Config

CONFIG_NAME = "config.toml"


def run_digest(config: Config, manifest: Manifest) -> str:
    """SHA-256 of the resolved recipe and of the records' plan and rendering."""
    text = "\n".join([to_toml(config), manifest.plan_digest, manifest.render_digest])
    return hashlib.sha256(text.encode()).hexdigest()


def fold_folder(run: str, number: int) -> str:
    """`RUN/foldK`."""
    return storage.join(run, f"fold{number}")


def write_config(run: str, config: Config) -> None:
    """Writes the resolved recipe as `RUN/config.toml`."""
    storage.write_text(storage.join(run, CONFIG_NAME), to_toml(config))


def refuse_other_recipe(run: str, config: Config) -> None:
    """Raises SettingsError when the folder holds a run of another recipe, naming what differs."""
    path = storage.join(run, CONFIG_NAME)
    if storage.exists(path):
        old, new = _flat(load_toml(path)), _flat(to_tables(config))
        differing = [
            f"{key} (there {old.get(key)!r}, asked {new.get(key)!r})"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
        if differing:
            raise SettingsError(
                f"{run}: config must be the one the run was started with, got other "
                f"{', '.join(differing)}; give another --run, or --fresh to start this one afresh"
            )


def finished_fold(run: str, number: int, digest: str) -> Predictions | None:
    """The predictions of a complete fold of this digest, else None."""
    folder = fold_folder(run, number)
    if not storage.exists(storage.join(folder, PREDICTIONS_NAME)):
        return None
    if not storage.list_names(storage.join(folder, "checkpoints")):
        return None
    predictions = read_predictions(folder)
    return predictions if predictions.run.get("digest") == digest else None


def gather_folds(run: str, numbers: Iterable[int], digest: str) -> Predictions:
    """Writes `RUN/predictions.parquet` of every complete fold, in order of row, and returns it."""
    found = (finished_fold(run, number, digest) for number in numbers)
    parts = [predictions for predictions in found if predictions is not None]
    merged = concatenate(parts, {**parts[0].run, "folds": [part.run["fold"] for part in parts]})
    write_predictions(storage.join(run, PREDICTIONS_NAME), merged)
    return merged


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"epochs": 3}}` as `{"train.epochs": 3}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        flat.update({f"{prefix}{key}": value} if inner is None else inner)
    return flat
