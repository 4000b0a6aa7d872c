"""The recipe as it was checked, in the folder of the run: `RUN/config.toml`.

A job reads it when it begins, and again when it goes on after a machine has failed: what stands
there must not change.
"""

from __future__ import annotations

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.settings import differences, to_tables, to_toml
from trainer.config import Config, load_config

TO_CHANGE = "give another --run, or remove that file if no job has trained by it"


def keep_recipe(path: str, config: Config) -> None:
    """Writes the recipe; one that is there and says the same stays.

    Raises:
      SettingsError: another one is there, naming what differs.
    """
    if storage.write_new(path, to_toml(config)):
        return
    there = to_tables(load_config(path))
    if differing := differences(there, to_tables(config)):
        raise SettingsError(
            f"{path}: the recipe of a run must stay the same, got another: {'; '.join(differing)}; "
            f"{TO_CHANGE}"
        )
