"""Checkpoints of a fold: written whole or not at all, the last two kept, a damaged one passed over.

    checkpoints/step-00000120/weights.index, weights.data-*   tf.train.Checkpoint
    checkpoints/step-00000120/state.json                      written last: it says "whole"

`state.json` holds where training stood (`State`), what the weights follow from (the fold's
digests), and the SHA-256 of the files beside it. `trainer.fold_run` asks for the newest one before
it builds anything, for the state says in which order the examples come.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from io import BufferedReader
from typing import Any, cast

import tensorflow as tf

from pipeline import storage
from trainer.running.state import State

STATE_NAME = "state.json"
KEPT = 2  # the newest may turn out damaged
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in one folder, of a fold with these digests."""

    def __init__(self, folder: str, digests: Mapping[str, str]) -> None:
        self._folder, self._digests = folder, dict(digests)
        self._recent: list[State] = []

    def newest(self) -> State | None:
        """The state of the newest whole checkpoint, or None; one that is damaged is warned of.

        One with other digests is of another recipe or of shards that have changed: no start for
        this fold.
        """
        for name in self._names():
            try:
                about = self._read(name)
                state = None if about is None else State.from_json(about["state"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning(
                    "%s: passed over, for a checkpoint must be whole, got %s",
                    storage.join(self._folder, name),
                    error,
                )
                continue
            if about is None or state is None:
                continue  # the process was killed while it wrote
            if about["digests"] != self._digests:
                _log.warning(
                    "%s: passed over, for it is of another recipe or of shards that have changed",
                    storage.join(self._folder, name),
                )
                return None
            return state
        return None

    def start_from(self, state: State | None) -> None:
        """Removes all that is not of this state's past, such as a newer one that is damaged."""
        self._recent = [state] if state else []
        self._remove(lambda name: state is None or name > _name(state.step))

    def save(self, state: State, tracked: Mapping[str, Any]) -> None:
        """Writes the weights and the state, then removes what is no longer needed."""
        folder = self._of(state.step)
        tf.train.Checkpoint(**tracked).write(storage.join(folder, "weights"))
        self._write_state(state, _sha256_by_name(folder))
        self._recent = [*self._recent, state][-KEPT:]
        bests = [recent.best.step for recent in self._recent if recent.best]
        needed = {_name(step) for step in [*(recent.step for recent in self._recent), *bests]}
        self._remove(lambda name: name not in needed)

    def amend(self, state: State) -> None:
        """Writes the state anew beside the weights of its step, which are there already."""
        files = json.loads(storage.read_text(self._state_path(state.step)))["files"]
        self._write_state(state, files)
        self._recent[-1] = state

    def restore(self, step: int, tracked: Mapping[str, Any]) -> None:
        """Gives the objects the values that they had at a step which `newest` or `Best` names."""
        path = storage.join(self._of(step), "weights")
        tf.train.Checkpoint(**tracked).read(path).assert_existing_objects_matched()

    def _read(self, name: str) -> dict[str, Any] | None:
        """What `state.json` says, its files checked; None without one. ValueError for damage."""
        folder = storage.join(self._folder, name)
        path = storage.join(folder, STATE_NAME)
        if not storage.exists(path):
            return None
        about: dict[str, Any] = json.loads(storage.read_text(path))
        found = _sha256_by_name(folder)
        for file, sha256 in about["files"].items():
            if found.get(file) != sha256:
                got = "another" if file in found else "no file"
                raise ValueError(f"{got} where {file} of SHA-256 {sha256[:12]}… was written")
        return about

    def _write_state(self, state: State, files: Mapping[str, str]) -> None:
        about = {"state": state.to_json(), "digests": self._digests, "files": files}
        storage.write_text(self._state_path(state.step), json.dumps(about) + "\n")

    def _remove(self, is_old: Callable[[str], bool]) -> None:
        for name in filter(is_old, self._names()):
            # First what says "whole": a process that is killed here leaves no half one.
            storage.remove(storage.join(self._folder, name, STATE_NAME))
            storage.remove_tree(storage.join(self._folder, name))

    def _names(self) -> list[str]:
        """The checkpoints' folders, the newest first."""
        names = [name for name in storage.list_names(self._folder) if name.startswith("step-")]
        return names[::-1]

    def _of(self, step: int) -> str:
        return storage.join(self._folder, _name(step))

    def _state_path(self, step: int) -> str:
        return storage.join(self._of(step), STATE_NAME)


def newest_weights(folder: str) -> str:
    """The prefix that `tf.train.Checkpoint.read` takes, of the newest checkpoint in a folder."""
    names = [
        name
        for name in storage.list_names(folder)
        if storage.exists(storage.join(folder, name, STATE_NAME))
    ]
    return storage.join(folder, names[-1], "weights")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _sha256_by_name(folder: str) -> dict[str, str]:
    digests = {}
    for name in storage.list_names(folder):
        if name.startswith("weights."):
            with storage.open_read(storage.join(folder, name)) as file:
                digests[name] = hashlib.file_digest(
                    cast(BufferedReader, file), "sha256"
                ).hexdigest()
    return digests
