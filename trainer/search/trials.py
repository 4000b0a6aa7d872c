"""The trials of a search: `DIR/trials/NNN-DIGEST/`, a run folder each, with its `trial.json`.

A trial is its resolved recipe: two combinations that come to the same recipe are one trial, and its
folder's name has the recipe's digest. Whether a trial is done is asked of its predictions
(`trainer.run_folder.finished_fold`), never noted; `trial.json` notes what else cannot be known: the
combination, the seconds it took, and why it failed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.predictions import Predictions, concatenate
from pipeline.records.manifest import Manifest
from pipeline.settings import differences, to_tables, to_toml
from pipeline.stream.records import Records
from trainer.config import Config, read_tables
from trainer.folds import FoldParts, check_choosable
from trainer.recipe import read_recipe
from trainer.run_folder import finished_fold, fold_digests
from trainer.search.space import Combination

TRIALS_NAME = "trials"
TRIAL_NAME = "trial.json"
BASE_NAME = "base.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """What all trials of a search have in common, before anything is tried."""

    records: Records
    config_path: str | None
    overrides: tuple[str, ...]  # KEY=VALUE each
    folds: str  # as `--folds` takes them
    allow_failures: bool
    replicas: int | None

    def recipe(self, combination: Combination) -> tuple[Config, tuple[FoldParts, ...]]:
        """The resolved recipe of a combination and its folds, checked as `trainer.task` does.

        But for leaks of extra records, which the task itself looks for before it starts TensorFlow.

        Raises:
          SettingsError: a key is unknown, or settings do not fit each other or the records.
        """
        recipe = read_recipe(
            self.records,
            self.config_path,
            [*self.overrides, *(f"{key}={value}" for key, value in combination.items())],
            folds=self.folds,
            allow_failures=self.allow_failures,
            replicas=self.replicas,
        )
        if recipe.config.train.keep == "best":
            check_choosable(self.records.manifest, recipe.chosen)
        return recipe.config, recipe.chosen

    def identity(self) -> dict[str, Any]:
        """Plain JSON: the records and the recipe as it is written, whether or not it is whole."""
        manifest = self.records.manifest
        tables, _ = read_tables(self.config_path, self.overrides)
        about = {
            "records": {
                "name": manifest.name,
                "plan_digest": manifest.plan_digest,
                "render_digest": manifest.render_digest,
            },
            "recipe": tables,
        }
        return json.loads(json.dumps(about))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What `trial.json` says beside number and combination."""

    seconds: float = 0.0  # of all its processes
    failure: str | None = None  # why it ended, if it failed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One combination; `folder` is a run folder of `trainer.task`."""

    number: int
    folder: str
    place: str  # the folder within the search's
    combination: Combination
    config: Config
    folds: tuple[FoldParts, ...]  # that the search looks at

    @property
    def name(self) -> str:
        """`003 (optimizer.learning_rate=0.001, loss.gamma=2)`."""
        settings = ", ".join(f"{key}={value}" for key, value in self.combination.items())
        return f"{self.number:03d} ({settings})"

    def setting(self, key: str) -> str:
        """The value of a key as `--set` takes it: the combination's, else the recipe's own."""
        if key in self.combination:
            return self.combination[key]
        value: Any = to_tables(self.config)
        for name in key.split("."):
            table = value[0] if isinstance(value, list) and value else value  # [[loss]]: the first
            value = table.get(name) if isinstance(table, dict) else None
        return "none" if value is None else str(value)

    def note(self) -> Note:
        """As it is on the disk now."""
        about = json.loads(storage.read_text(storage.join(self.folder, TRIAL_NAME)))
        return Note(seconds=about["seconds"], failure=about["failure"])

    def write(self, note: Note) -> None:
        """Writes `trial.json`."""
        about = {"number": self.number, "overrides": self.combination, **dataclasses.asdict(note)}
        storage.write_text(
            storage.join(self.folder, TRIAL_NAME), json.dumps(about, indent=1) + "\n"
        )

    def predictions(self, manifest: Manifest, folds: int | None = None) -> Predictions | None:
        """Of the validation rows of its first so many folds (None: all), once they are complete."""
        parts: list[Predictions] = []
        for fold in self.folds[:folds]:
            digests = fold_digests(self.config, manifest, fold)
            found = finished_fold(self.folder, fold.number, digests)
            if found is None:
                return None
            parts.append(found)
        selected_on = [name for part in parts for name in part.run.get("selected_on", [])]
        return concatenate(parts, {"selected_on": selected_on} if selected_on else {})


def plan_trials(
    folder: str, base: Base, asked: Sequence[Combination]
) -> tuple[list[Trial], list[Trial]]:
    """All trials of the folder, in order of number, and those of them that are asked for.

    Checks every combination, then writes `trial.json` of the new ones; nothing is written when one
    is at fault.

    Raises:
      SettingsError: a combination is at fault, or the folder's search is of other records, of
        another recipe, or of the same one with other defaults.
    """
    _refuse_another_base(folder, base)
    trials = {_digest(trial.config): trial for trial in _read_trials(folder, base)}
    number = max((trial.number for trial in trials.values()), default=0)
    chosen, new = {}, []
    for combination in asked:
        config, folds = base.recipe(combination)
        digest = _digest(config)
        if digest not in trials:
            number += 1
            place = f"{TRIALS_NAME}/{number:03d}-{digest[:8]}"
            trials[digest] = Trial(
                number=number,
                folder=storage.join(folder, place),
                place=place,
                combination=combination,
                config=config,
                folds=folds,
            )
            new.append(trials[digest])
        chosen[digest] = trials[digest]
    _refuse_unlike_folds([*trials.values()])
    storage.write_text(
        storage.join(folder, BASE_NAME), json.dumps(base.identity(), indent=1) + "\n"
    )
    for trial in new:
        trial.write(Note())
    return list(trials.values()), list(chosen.values())


def _read_trials(folder: str, base: Base) -> list[Trial]:
    trials = []
    for name in storage.list_names(storage.join(folder, TRIALS_NAME)):
        trial_folder = storage.join(folder, TRIALS_NAME, name)
        path = storage.join(trial_folder, TRIAL_NAME)
        if not storage.exists(path):
            continue  # whoever planned it was killed before it was written
        about = json.loads(storage.read_text(path))
        config, folds = base.recipe(about["overrides"])
        if name != f"{about['number']:03d}-{_digest(config)[:8]}":
            raise SettingsError(
                f"{trial_folder}: the recipe must be what it was when the trial was planned, got "
                "one with other defaults or other extra records; give another --run, or --fresh"
            )
        trials.append(
            Trial(
                number=about["number"],
                folder=trial_folder,
                place=f"{TRIALS_NAME}/{name}",
                combination=about["overrides"],
                config=config,
                folds=folds,
            )
        )
    return sorted(trials, key=lambda trial: trial.number)


def _refuse_another_base(folder: str, base: Base) -> None:
    path = storage.join(folder, BASE_NAME)
    if not storage.exists(path):
        return
    there: Mapping[str, Any] = json.loads(storage.read_text(path))
    if differing := differences(there, base.identity()):
        raise SettingsError(
            f"{folder}: records and recipe must be what the search was started with, got other "
            f"{', '.join(differing)}; give another --run, or --fresh to start this one afresh"
        )


def _refuse_unlike_folds(trials: Sequence[Trial]) -> None:
    """Trials that validate on other rows cannot be compared: told before the first has trained."""
    for trial in trials:
        if trial.folds != trials[0].folds:
            raise SettingsError(
                "--grid, --random: all trials must validate on the same folds or parts, got "
                f"{trial.name} beside {trials[0].name}; search data.folds, data.train and "
                "data.validation in folders of their own"
            )


def _digest(config: Config) -> str:
    return hashlib.sha256(to_toml(config).encode()).hexdigest()
