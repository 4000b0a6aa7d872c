"""The recipes under `configs/`: that each is one, says how to run it, and takes a step."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.predictions import read_predictions
from pipeline.settings import load_recipe
from pipeline.stream.augment.recipe import build_ops
from records_factory import write_toy_records
from trainer.config import load_config, resolve
from trainer.schedules import learning_rates
from trainer.task import main

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STUDIES = {"study.toml"}  # what a tuner varies of a recipe
RECIPES = sorted({str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.toml")} - STUDIES)
SMALL = {"demo.toml", "ham_cpu.toml", "ham_cpu_fused.toml", "ham_cpu_fused_128.toml"}


@pytest.fixture
def eagerly():
    """Op by op: the same step, in a fifth of the time that B4 takes to compile."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def loaded(name, *overrides):
    return load_config(str(CONFIGS / name), ["model.weights=none", *overrides])


def label_of(name):
    """The winners of both years trained on diagnoses, and so does what learns HAM10000."""
    return "multiclass" if name.startswith(("winners", "ham")) else "binary"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_records_of_its_label(tmp_path, name):
    manifest = write_toy_records(tmp_path, kind=label_of(name))
    config = resolve(loaded(name, "data.image_size_px=16"), manifest)
    assert build_ops(config.augment)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_begins_with_the_command_that_runs_it(name):
    header = re.match(r"(#.*\n)+", (CONFIGS / name).read_text())
    assert header
    assert f"--config configs/{name}" in header[0]
    assert "trainer.task" in header[0]


@pytest.mark.parametrize("size_px", [256, 384, 512])
@pytest.mark.parametrize("number", range(8))
def test_a_public_notebooks_recipe_takes_the_records_size(tmp_path, number, size_px):
    manifest = write_toy_records(tmp_path, rows=8, size_px=size_px)
    config = resolve(loaded(f"siim2020/b{number}.toml"), manifest)
    assert config.data.image_size_px == size_px
    assert config.model.backbone == f"efficientnet-b{number}"
    assert len(config.augment) == 8


@pytest.mark.parametrize("batch_size", [32, 256])
def test_the_public_notebooks_rate_is_that_of_its_own_formula(batch_size):
    config = loaded("siim2020/b3.toml", f"train.batch_size={batch_size}")
    peak = config.optimizer.resolved(batch_size).learning_rate
    found = learning_rates(config.schedule, peak, config.train.epochs, steps_per_epoch=2)[::2]
    # Of eight cores; start and floor are of these, and follow the batch here.
    first, last = 5e-6 * batch_size / 256, 1e-6 * batch_size / 256
    highest = 1.25e-6 * batch_size
    ramp = [first + (highest - first) * epoch / 5 for epoch in range(5)]
    decay = [last + (highest - last) * 0.8**epoch for epoch in range(7)]
    np.testing.assert_allclose(found, [*ramp, *decay], rtol=1e-5)


def test_a_second_attempt_is_the_first_with_metadata():
    second, first = (loaded(f"first_attempt/{name}.toml") for name in ("v3", "v2"))
    assert (second.model.fusion, first.model.fusion) == ("concat", None)
    assert (second.augment, second.loss, second.train) == (first.augment, first.loss, first.train)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config")
@pytest.mark.parametrize(
    "name",
    [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES],
)
def test_a_recipe_takes_a_step_and_predicts(tmp_path, name, eagerly):
    toy = {"rows": 8, "size_px": 72, "parts": ("fold0", "fold1"), "seed": 5}  # all classes train
    write_toy_records(tmp_path / "records", kind=label_of(name), **toy)
    command = ["--records", str(tmp_path / "records"), "--run", str(tmp_path / "run")]
    command += ["--config", str(CONFIGS / name), "--folds", "0"]
    stages = range(len(loaded(name).stage))
    overrides = [f"train.epochs={max(len(stages), 1)}", *(f"stage.{n}.epochs=1" for n in stages)]
    overrides += ["model.weights=none", "data.image_size_px=64"]
    for text in (*overrides, "train.batch_size=4", "train.steps_per_call=1"):
        command += ["--set", text]
    assert main(command) == 0
    assert len(read_predictions(str(tmp_path / "run")).frame) == 4


def test_a_recipe_lies_over_its_base(tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "first.toml").write_text(
        "augment = [{op = 'transpose'}]\n[train]\nepochs = 3\nseed = 1"
    )
    (tmp_path / "second.toml").write_text("base = 'deeper/first.toml'\n[train]\nepochs = 4")
    (tmp_path / "third.toml").write_text(
        "base = 'second.toml'\naugment = [{op = 'flip_left_right'}]\n[train]\nbatch_size = 5"
    )
    config = load_config(str(tmp_path / "third.toml"), ["train.seed=2"])
    assert (config.train.epochs, config.train.batch_size, config.train.seed) == (4, 5, 2)
    assert config.augment == ({"op": "flip_left_right"},)


def test_a_base_by_an_absolute_path_is_refused_though_it_lies_in_the_folder(tmp_path):
    (tmp_path / "b.toml").write_text("")
    (tmp_path / "a.toml").write_text(f"base = '{tmp_path}/b.toml'")
    with pytest.raises(SettingsError, match=r"base must be a .toml .* by a path from there, got"):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("base", ["'../other.toml'", "'/other.toml'", "'b.txt'", "3", "''"])
def test_a_base_that_is_no_recipe_of_the_folder_is_refused(tmp_path, base):
    (tmp_path / "configs").mkdir()
    (tmp_path / "other.toml").write_text("")
    path = tmp_path / "configs" / "a.toml"
    path.write_text(f"base = {base}")
    with pytest.raises(SettingsError, match=r"a.toml: base must be a .toml file in configs/ or be"):
        load_recipe(path)


def test_a_base_by_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "other.toml").write_text("")
    (tmp_path / "configs" / "link.toml").symlink_to(tmp_path / "other.toml")
    (tmp_path / "configs" / "a.toml").write_text("base = 'link.toml'")
    with pytest.raises(SettingsError, match=r"base must be a .toml file in configs/ or below"):
        load_recipe(tmp_path / "configs" / "a.toml")


def test_bases_that_lead_back_are_refused(tmp_path):
    for name, base in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.toml").write_text(f"base = '{base}.toml'")
    with pytest.raises(SettingsError, match=r"c.toml: base must not lead back, got .*a.toml on "):
        load_recipe(tmp_path / "a.toml")


def test_a_fault_of_a_base_names_both_files(tmp_path):
    (tmp_path / "a.toml").write_text("base = 'b.toml'")
    (tmp_path / "b.toml").write_text("[train]\nepoch = 3")
    with pytest.raises(SettingsError, match=r"a.toml on .*b.toml: train: unknown key 'epoch'"):
        load_config(str(tmp_path / "a.toml"))
    (tmp_path / "b.toml").unlink()
    with pytest.raises(SettingsError, match=r"b.toml: no such file"):
        load_config(str(tmp_path / "a.toml"))
