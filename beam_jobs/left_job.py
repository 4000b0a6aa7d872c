"""A job that goes on without its launcher: a note in its work folder keeps others out.

The lock of a work folder is its launcher's and ends with it: by `--no_wait`, in a Flex Template, by
Ctrl-C or when the machine sleeps. Dataflow's workers go on. So the launcher notes in the folder
where the job will say how it ended, and who comes later asks there. `beam_jobs.score_job` does.
"""

from __future__ import annotations

from beam_jobs.job import Outcome, outcome_from_json
from pipeline import storage
from pipeline.errors import SettingsError

_NOTE_NAME = "dataflow.txt"  # holds the path of an outcome


def note_job(folder: str, outcome_path: str) -> None:
    """Keeps others out of the folder until the job has said how it ended."""
    storage.write_text(_note_path(folder), outcome_path)


def forget_job(folder: str) -> None:
    """Lets others in: nothing of the job runs any more."""
    storage.remove(_note_path(folder))


def how_it_ended(folder: str) -> Outcome | None:
    """Of the job that was noted; None where none was. The note stays until `forget_job`.

    Raises:
      SettingsError: it has not said so yet.
    """
    path = _note_path(folder)
    try:
        outcome_path = storage.read_text(path)
    except FileNotFoundError:
        return None
    try:
        return outcome_from_json(storage.read_text(outcome_path))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{folder}: no Dataflow job must be at work there, got one that has not said how it "
            f"ended ({outcome_path}); wait for it; if it is over (failed, cancelled, or its folder "
            f"under --temp_location was removed), remove {path} and give the same command again"
        ) from error


def _note_path(folder: str) -> str:
    return storage.join(folder, _NOTE_NAME)
