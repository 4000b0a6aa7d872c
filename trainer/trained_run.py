"""A run whose folds are complete, opened to use its models. Read without TensorFlow.

For `trainer.export`, `trainer.predict` and the pictures of `trainer.report`. A fold counts when its
predictions are of the recipe that lies in the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.command_line import names
from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import PREDICTIONS_NAME, Predictions, output_classes, read_predictions
from pipeline.records.label import LabelInfo
from pipeline.settings import load_toml
from trainer.config import Config, load_config
from trainer.precision import Precision
from trainer.run_folder import CONFIG_NAME, checkpoint_folder, fold_folder

if TYPE_CHECKING:
    from trainer.exported.weights import Trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run folder: its recipe, and the predictions of its complete folds by number."""

    folder: str
    config: Config  # resolved
    folds: Mapping[int, Predictions]  # one at least

    @property
    def label(self) -> LabelInfo:
        """What its models were trained on."""
        return next(iter(self.folds.values())).label

    @property
    def size_px(self) -> int:
        """Of the images that its models predict on."""
        size_px = self.config.data.evaluation_size_px or self.config.data.image_size_px
        assert size_px is not None  # of a resolved recipe
        return size_px

    def choose(self, text: str) -> list[int]:
        """The complete folds that `--folds` names: `all`, or numbers such as `0,1`."""
        by_name = {str(number): number for number in self.folds}
        if text == "all":
            return list(self.folds)
        asked = names(text)
        for name in asked:
            if name not in by_name:
                raise SettingsError(
                    f"--folds must be all, or among the complete {', '.join(by_name)}, got {name!r}"
                )
        return sorted({by_name[name] for name in asked})

    def encoder(self, fold: int) -> MetadataEncoder | None:
        """What turns a table into what the fold's model reads; None for a model of images alone."""
        if not self.config.model.fusion:
            return None
        text = storage.read_text(storage.join(fold_folder(self.folder, fold), "metadata.json"))
        return MetadataEncoder.from_json(text)

    def load(self, fold: int, precision: Precision = "float32") -> Trained:
        """The model of a fold with the weights that made its predictions.

        Raises:
          CheckpointError: there is no whole checkpoint, or it is of another training.
        """
        from trainer.exported.weights import load_trained  # after what is refused without it

        encoder, about = self.encoder(fold), self.folds[fold].run
        checkpoints = storage.join(fold_folder(self.folder, fold), "checkpoints")
        if not storage.list_names(checkpoints):  # then they are where Vertex AI says
            checkpoints = checkpoint_folder(self.folder, fold)
        return load_trained(
            self.config.model,
            checkpoints,
            {name: value for name, value in about.items() if name.endswith("_digest")},
            precision,
            image_size_px=self.size_px,
            metadata_width=len(encoder.names) if encoder else 0,
            outputs=len(output_classes(self.label)),
        )


def read_trained_run(folder: str, where: str = "--run") -> TrainedRun:
    """The run in a folder; `where` begins the messages.

    Raises:
      SettingsError: it is no run of networks, or none of its folds is complete.
    """
    path = storage.join(folder, CONFIG_NAME)
    if not storage.exists(path):
        what = "which has none" if storage.exists(folder) else "which is not there"
        raise SettingsError(
            f"{where} must be a run folder, which has a {CONFIG_NAME}, got {folder}, {what}"
        )
    # A recipe's is a table; a baseline's, the name of a linear model.
    if isinstance(name := load_toml(path).get("model"), str):
        raise SettingsError(
            f"{where} must be a run of trainer.task, which has a network, got the baseline "
            f"{name!r} in {folder}; name a run that was trained, or combine such runs alone"
        )
    digest = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    numbers = sorted(
        int(found[1])
        for name in storage.list_names(folder)
        if (found := re.fullmatch(r"fold(\d+)", name))
        and storage.exists(storage.join(folder, name, PREDICTIONS_NAME))
    )
    predictions = {number: read_predictions(fold_folder(folder, number)) for number in numbers}
    complete = {
        number: of_fold
        for number, of_fold in predictions.items()
        if of_fold.run.get("recipe_digest") == digest
    }
    if not complete:
        raise SettingsError(
            f"{folder}: there must be a complete fold, got none; train one with trainer.task"
        )
    return TrainedRun(folder=folder, config=load_config(path), folds=complete)
