"""`init`: which fold of another run a fold starts from, and whether that is honest.

`trainer.task` asks before TensorFlow starts, `trainer.fold_run` again for the fold that it trains.
Weights that have seen the rows that validate here would make every figure of this run a lie that
nobody notices; so a fold starts from one whose training left them out, or says what it is.
"""

from __future__ import annotations

import dataclasses
import json

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import PREDICTIONS_NAME, Predictions, read_predictions
from pipeline.records.manifest import Manifest
from trainer.config import Config, load_config
from trainer.folds import FoldParts, fold_parts
from trainer.run_folder import CONFIG_NAME, RECORDS_NAME, initial_fold

_MEND = (
    "name the run alone for its same fold, or set init_any_fold = true, which makes figures say "
    "'selected on'"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A complete fold of another run."""

    folder: str  # RUN/foldK
    config: Config
    predictions: Predictions
    encoder: MetadataEncoder | None  # of a fused fold
    is_selected: bool  # on rows that validate here, or has seen them


def find_source(
    config: Config, manifest: Manifest, fold: FoldParts, run_folder: str
) -> Source | None:
    """The fold that `config.init` names, checked, for a fold of the run in `run_folder`.

    None without `init`.

    Raises:
      SettingsError: it is not complete, of another backbone, or has seen what validates here.
    """
    if config.init is None:
        return None
    folder = initial_fold(config.init, fold.number)
    run, _, name = folder.rpartition("/")
    number = int(name.removeprefix("fold"))
    if storage.join(run) == storage.join(run_folder):
        raise SettingsError(f"init must be of another run than this one, got {config.init!r}")
    for path in (storage.join(run, CONFIG_NAME), storage.join(folder, PREDICTIONS_NAME)):
        if not storage.exists(path):
            raise SettingsError(
                f"fold {fold.number}: init must be a complete fold, as RUN or RUN/fold0, got "
                f"{config.init!r}: there is no {path}"
            )
    theirs = load_config(storage.join(run, CONFIG_NAME))
    for name in ("backbone", "backend"):
        ours_is, theirs_is = getattr(config.model, name), getattr(theirs.model, name)
        if ours_is != theirs_is:
            raise SettingsError(
                f"fold {fold.number}: init must be of model.{name} {ours_is!r}, got {folder} "
                f"of {theirs_is!r}"
            )
    predictions = read_predictions(folder)
    doubt = _doubt(theirs, run, number, manifest, fold)
    if doubt and not config.init_any_fold:
        raise SettingsError(
            f"fold {fold.number}: init must be weights that have not seen its validation rows, "
            f"got {folder}, {doubt}; {_MEND}"
        )
    encoder = None
    if theirs.model.fusion:
        text = storage.read_text(storage.join(folder, "metadata.json"))
        encoder = MetadataEncoder.from_json(text)
    return Source(
        folder=folder,
        config=theirs,
        predictions=predictions,
        encoder=encoder,
        is_selected=bool(doubt or {*fold.validation} & {*predictions.run.get("selected_on", ())}),
    )


def _doubt(
    theirs: Config, run: str, number: int, manifest: Manifest, fold: FoldParts
) -> str | None:
    """Why the other fold's training may have seen rows that validate here; None if it has not."""
    about = json.loads(storage.read_text(storage.join(run, RECORDS_NAME)))
    if about["plan_digest"] != manifest.plan_digest:
        return "which is of records of another plan, whose rows cannot be told from these"
    parts = {part.number: part for part in fold_parts(manifest, theirs.data)}[number]
    if seen := [part for part in fold.validation if part in parts.train]:
        return f"which was trained on {', '.join(seen)}"
    # What it took from elsewhere was checked against its own validation parts alone.
    if theirs.extra or theirs.init:
        unchecked = [part for part in fold.validation if part not in parts.validation]
        if unchecked or theirs.init_any_fold:
            what = "[[extra]] records" if theirs.extra else f"init = {theirs.init!r}"
            return f"whose {what} may hold rows of {', '.join(unchecked or fold.validation)}"
    return None
