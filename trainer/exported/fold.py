"""The complete folds of a run, and the model of one with all that it takes.

For `trainer.export` and the pictures of `trainer.report`. TensorFlow starts in `load_fold` alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import PREDICTIONS_NAME, Predictions, output_classes, read_predictions
from pipeline.settings import load_toml
from trainer.config import Config, load_config
from trainer.run_folder import CONFIG_NAME, checkpoint_folder, fold_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompleteRun:
    """A run folder of `trainer.task`: its recipe, and the predictions of its complete folds."""

    folder: str
    config: Config
    folds: Mapping[int, Predictions]  # by number, in order


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedFold:
    """A Keras model, of images of `size_px`, and the encoder of its metadata where it is fused."""

    model: Any
    size_px: int
    encoder: MetadataEncoder | None
    step: int  # of the training, whose weights these are
    is_averaged: bool


def open_run(folder: str, where: str) -> CompleteRun:
    """`where`, such as `--run`, begins the messages.

    Raises:
      SettingsError: it is no run folder of `trainer.task`.
    """
    path = storage.join(folder, CONFIG_NAME)
    if not storage.exists(path):
        raise SettingsError(f"{where} must be a run folder, which has a {CONFIG_NAME}, got {path}")
    # A recipe's is a table; a baseline's, the name of a linear model.
    if isinstance(name := load_toml(path).get("model"), str):
        raise SettingsError(
            f"{where} must be a run of trainer.task, which has a network, got the baseline "
            f"{name!r} in {folder}; name a run that was trained"
        )
    numbers = [
        int(found[1])
        for name in storage.list_names(folder)
        if (found := re.fullmatch(r"fold(\d+)", name))
        and storage.exists(storage.join(folder, name, PREDICTIONS_NAME))
    ]
    predictions = {
        number: read_predictions(fold_folder(folder, number)) for number in sorted(numbers)
    }
    recipe_digest = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    return CompleteRun(
        folder=folder,
        config=load_config(path),
        folds={
            number: of_fold
            for number, of_fold in predictions.items()
            if of_fold.run.get("recipe_digest") == recipe_digest
        },
    )


def load_fold(run: CompleteRun, number: int) -> LoadedFold:
    """The model of a complete fold with the weights that made its predictions.

    Raises:
      CheckpointError: there are none, or they are of another training.
    """
    from trainer.exported.weights import load_trained

    config, predictions, encoder = run.config, run.folds[number], None
    if config.model.fusion:
        text = storage.read_text(storage.join(fold_folder(run.folder, number), "metadata.json"))
        encoder = MetadataEncoder.from_json(text)
    size_px = config.data.evaluation_size_px or config.data.image_size_px
    assert size_px is not None  # of a resolved recipe
    trained = load_trained(
        config.model,
        checkpoint_folder(run.folder, number),
        {name: value for name, value in predictions.run.items() if name.endswith("_digest")},
        image_size_px=size_px,
        metadata_width=len(encoder.names) if encoder else 0,
        outputs=len(output_classes(predictions.label)),
    )
    return LoadedFold(
        model=trained.model,
        size_px=size_px,
        encoder=encoder,
        step=trained.step,
        is_averaged=trained.is_averaged,
    )
