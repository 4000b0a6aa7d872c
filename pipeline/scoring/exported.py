"""What `trainer.export` wrote, as far as it can be known without TensorFlow.

`beam_jobs.score_images` learns from `model.json` what a model takes, what its outputs mean and how
the records that it was trained on were rendered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.combine import Ensemble
from pipeline.errors import DataError, SettingsError
from pipeline.images.render import RenderSpec
from pipeline.predictions import run_folder_of
from pipeline.records.label import LabelInfo, label_from_json
from pipeline.settings import from_tables

SCHEMA_VERSION = 1
MODEL_NAME = "model.json"
_GRAPH_NAME = "saved_model.pb"


class ExportError(DataError):
    """An exported model is missing, incomplete, too old, or does not fit the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column of metadata that a model takes."""

    name: str  # of the records' feature
    input: str  # of the signature
    known: tuple[str, ...] | None  # the values of a category; None: a number


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How an image is made ready for a model: as its records were."""

    size: int  # px
    spec: RenderSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """One SavedModel and its `model.json`."""

    folder: str
    digest: str  # SHA-256 of all its files
    label: LabelInfo
    columns: tuple[Column, ...]
    rendering: Rendering
    spec: Mapping[str, Any]  # of the records' dataset, as its manifest holds it
    is_rendering_known: bool = True  # not of records that others wrote
    selected_on: tuple[str, ...] = ()  # what the training chose anything on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """Models whose probabilities are averaged first: the folds of a run."""

    name: str
    models: tuple[ExportedModel, ...]


def find_members(paths: Sequence[str], ensemble: Ensemble | None) -> tuple[Member, ...]:
    """The members that `--models` names, or else the ensemble's own; all of one label.

    Raises:
      SettingsError: a path holds no exported model or is given twice, or there are more or fewer
        than the ensemble's.
      ExportError: a model is at fault, or of another label than the first.
    """
    given = [storage.resolve(path) for path in paths]
    for place, path in enumerate(given):
        if path in given[:place] and ensemble is None:  # whose members may be of one run
            raise SettingsError(
                f"--models must each be given once, got {paths[place]!r} again; leave one out"
            )
    names = list(ensemble.members) if ensemble else list(paths)
    paths = paths or [run_folder_of(name) for name in names]
    if len(paths) != len(names):
        raise SettingsError(
            f"--models must be one for each of the ensemble's {len(names)} members, in their order "
            f"({', '.join(names)}), got {len(paths)}"
        )
    members = tuple(
        Member(name=name, models=_find_models(path))
        for name, path in zip(names, paths, strict=True)
    )
    models = all_models(members)
    for model in models[1:]:
        if model.label != models[0].label:
            raise ExportError(
                f"{model.folder}: label must be that of {models[0].folder}, {models[0].label}, got "
                f"{model.label}; score them apart"
            )
    return members


def all_models(members: Sequence[Member]) -> list[ExportedModel]:
    """The models of all members, in order."""
    return [model for member in members for model in member.models]


def render_otherwise(members: Sequence[Member], settings: Mapping[str, Any]) -> tuple[Member, ...]:
    """The members with other settings of the rendering, by name of `RenderSpec`'s fields."""
    try:
        return tuple(
            dataclasses.replace(
                member, models=tuple(_rendered(model, settings) for model in member.models)
            )
            for member in members
        )
    except ValueError as error:
        raise SettingsError(f"command line: {error}") from error


def _rendered(model: ExportedModel, settings: Mapping[str, Any]) -> ExportedModel:
    spec = dataclasses.replace(model.rendering.spec, **settings)
    return dataclasses.replace(model, rendering=Rendering(model.rendering.size, spec))


def read_model(folder: str) -> ExportedModel:
    """The exported model in a folder.

    Raises:
      ExportError: it is not complete, of another version, or does not tell of its records.
    """
    path = storage.join(folder, MODEL_NAME)
    try:
        about = json.loads(storage.read_bytes(path))
        version = about["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: not a model.json: {error}; export the model again") from error
    if version != SCHEMA_VERSION:
        raise ExportError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, got {version!r}; export the model "
            "with trainer.export of this version"
        )
    if not about.get("records") or "label" not in about:
        raise ExportError(
            f"{path}: records must say how images were rendered, got nothing; export the model "
            "again with trainer.export --records FOLDER"
        )
    records = about["records"]
    try:
        columns = tuple(
            Column(
                name=column["column"],
                input=column["input"],
                known=tuple(column["known"]) if "known" in column else None,
            )
            for column in about["columns"]
        )
        size, label = records["size"] or about["image_size_px"], label_from_json(about["label"])
        render = from_tables(RenderSpec, records["render"], f"{path}: records.render")
        spec, selected_on = dict(records["spec"]), tuple(about["run"].get("selected_on", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path}: not a model.json: {error}; export the model again") from error
    return ExportedModel(
        folder=folder,
        digest=_digest(folder),
        label=label,
        columns=columns,
        rendering=Rendering(size, render),
        spec=spec,
        is_rendering_known=bool(records["render"]),
        selected_on=selected_on,
    )


def _find_models(path: str) -> tuple[ExportedModel, ...]:
    """Of a model's folder, of one that holds `foldK/`, or of a run with such an `export/`."""
    for folder in (path, storage.join(path, "export")):
        if storage.exists(storage.join(folder, MODEL_NAME)):
            return (read_model(folder),)
        numbers = sorted(
            int(found[1])
            for name in storage.list_names(folder)
            if (found := re.fullmatch(r"fold(\d+)", name))
            and storage.exists(storage.join(folder, name, MODEL_NAME))
        )
        if numbers:
            return tuple(read_model(storage.join(folder, f"fold{number}")) for number in numbers)
    raise SettingsError(
        f"--models must be exported models ({MODEL_NAME}), or a run with export/foldK/, got "
        f"{path!r}, which has none; export it with trainer.export, which takes networks alone"
    )


def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    files = [MODEL_NAME, _GRAPH_NAME]
    for below in ("variables", "assets"):
        names = storage.list_names(storage.join(folder, below))
        files += [storage.join(below, name) for name in names]
    for file in files:
        try:
            data = storage.read_bytes(storage.join(folder, file))
        except FileNotFoundError as error:
            raise ExportError(
                f"{folder}: an exported model must have {file}, got none; export the model again"
            ) from error
        digest.update(f"{file}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()
