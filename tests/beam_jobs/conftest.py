"""A run to score images with; it takes TensorFlow, so only tests of scoring ask for it."""

import pytest

from beam_jobs.make_records import main as make_records
from dataset_factory import record_flags, write_dataset

RECIPE = """
[model]
backbone = "small-cnn"
fusion = "concat"
fusion_units = [4]
[optimizer]
learning_rate = 1e-2
[train]
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory):
    """The folder of `write_dataset`'s 24 images, with a `run` of two of 4 folds, exported."""
    from trainer.export import main as export
    from trainer.task import main as train

    folder = tmp_path_factory.mktemp("scored")
    write_dataset(folder)
    assert make_records(record_flags(folder, folder / "out", sizes="48")) == 0
    (folder / "recipe.toml").write_text(RECIPE)
    command = ["--records", f"{folder}/out/48", "--run", f"{folder}/run", "--folds", "0,1"]
    assert train([*command, "--config", f"{folder}/recipe.toml"]) == 0
    assert export(["--run", f"{folder}/run"]) == 0
    return folder
