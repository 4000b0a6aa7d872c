"""What cannot be on gs:// says so in one line, before any work and without the network."""

import pytest

from pipeline.phantom.__main__ import main as phantom
from pipeline.settings import SettingsError
from trainer.config import load_config
from trainer.search.__main__ import main as search


def test_a_cache_folder_is_on_this_machine():
    with pytest.raises(SettingsError, match="cache_folder must be on this machine, got gs://b"):
        load_config(None, ["data.cache_folder=gs://bucket/cache"])


@pytest.mark.parametrize(
    ("main", "words", "told"),
    [
        (phantom, ["--output", "gs://bucket/phantom"], "--output must be on this machine"),
        (
            search,
            ["--records", "out/96", "--run", "gs://bucket/search", "--grid", "train.seed=0,1"],
            "--run must be on this machine",
        ),
    ],
    ids=["phantom", "search"],
)
def test_a_command_names_the_flag(main, words, told, capsys):
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line
    assert "got gs://bucket/" in line
