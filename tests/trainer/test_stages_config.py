"""`[[stage]]` in a recipe: what a stage changes, how long it is, and what is refused."""

import dataclasses

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import to_toml
from records_factory import write_toy_records
from trainer.config import Config, load_config, resolve
from trainer.stages.config import StageConfig

STAGES = """
[[loss]]
[[loss]]
kind = "focal"
[optimizer]
learning_rate_per_256 = true
[schedule]
kind = "cosine"
[train]
epochs = 9
batch_size = 64
evaluate_every = 1
[[stage]]
epochs = 2
freeze = "backbone"
learning_rate = 1e-2
schedule = {kind = "constant"}
dropout = 0.0
loss_weights = [1, 0.5]
[[stage]]
freeze_batch_norm = true
group_rates = {backbone = 0.1}
[[stage]]
epochs = 3
patience_epochs = 2
"""


def load(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    return load_config(str(tmp_path / "recipe.toml"))


def test_a_recipe_without_stages_is_one_stage_of_itself():
    config = Config()
    assert config.stages == (StageConfig(epochs=config.train.epochs),)
    assert config.in_stage(0) == config


def test_a_stage_changes_what_it_names_and_nothing_else(tmp_path):
    config = load(tmp_path, STAGES)
    first = config.in_stage(0)
    assert (first.optimizer.learning_rate, first.schedule.kind) == (1e-2, "constant")
    assert first.model == dataclasses.replace(config.model, dropout=0.0)
    assert [term.weight for term in first.loss] == [1.0, 0.5]
    assert first.train == dataclasses.replace(config.train, epochs=2)
    assert first.data == config.data
    last = resolve(config, write_toy_records(tmp_path / "records")).in_stage(2)
    assert (last.schedule.kind, last.optimizer.learning_rate) == ("cosine", 1e-3 * 64 / 256)
    assert [term.weight for term in last.loss] == [1.0, 1.0]


def test_the_stage_that_names_no_epochs_has_what_the_others_leave(tmp_path):
    config = resolve(load(tmp_path, STAGES), write_toy_records(tmp_path / "records"))
    assert [stage.epochs for stage in config.stages] == [2, 4, 3]
    assert config.in_stage(1).model.batch_norm == "frozen"


def test_a_stages_rate_is_per_256_examples_where_the_recipes_is(tmp_path):
    config = resolve(load(tmp_path, STAGES), write_toy_records(tmp_path / "records"))
    assert config.stages[0].learning_rate == pytest.approx(1e-2 * 64 / 256)


def test_a_resolved_recipe_of_stages_written_down_is_the_same_recipe(tmp_path):
    manifest = write_toy_records(tmp_path / "records")
    config = resolve(load(tmp_path, STAGES), manifest)
    assert resolve(load(tmp_path, to_toml(config)), manifest) == config


@pytest.mark.parametrize(
    ("stage", "chooses"),
    [
        ("", False),
        ("patience_epochs = 1", True),
        ("schedule = {kind = 'on_plateau'}", True),
    ],
)
def test_a_stage_that_looks_at_the_validation_is_said_to_choose_on_it(tmp_path, stage, chooses):
    text = f"[train]\nevaluate_every = 1\n[[stage]]\nepochs = 5\n[[stage]]\n{stage}"
    assert load(tmp_path, text).chooses_on_validation is chooses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[stage]]\nepoch = 3", "stage: unknown key 'epoch'; did you mean 'epochs'"),
        ("[[stage]]\nepochs = 0", "stage: epochs must be 1 or more, got 0"),
        (
            "[[stage]]\nepochs = 3\n[[stage]]\nepochs = 4",
            r"epochs must add up to train.epochs, 10, got 3 \+ 4 = 7; leave those of one",
        ),
        ("[[stage]]\n[[stage]]\n", "epochs must be given for all stages but one"),
        ("[[stage]]\nepochs = 10\n[[stage]]\n", "epochs must leave 1 or more of train.epochs, 10"),
        ("[[stage]]\nfreeze = 'head'", "freeze must be one of 'backbone', got 'head'"),
        ("[[stage]]\nunfreeze_blocks = 2", "must stand beside freeze = 'backbone', got 2 without"),
        ("[[stage]]\ngroup_rates = {backbone = 0}", "backbone must be above 0 .*; freeze what"),
        ("[[stage]]\ngroup_rates = {fusion = 0.5}", "left out without model.fusion, got 0.5"),
        ("[[stage]]\nloss_weights = [1, 2]", r"stage.loss_weights must be 1, .* got \[1.0, 2.0"),
        ("[[stage]]\nloss_weights = [0]", r"loss_weights must be 0 or more .*, got \[0.0\]"),
        (
            "[[stage]]\npatience_epochs = 2",
            "patience_epochs: train.evaluate_every must be given with",
        ),
        ("[[stage]]\nschedule = {kind = 'cosin'}", "did you mean 'cosine'"),
        ("[[stage]]\nschedule = {kind = 'on_plateau'}", "train.evaluate_every must be given for"),
        ("init_any_fold = true", "init_any_fold must be left out without init"),
        ("[data]\nevaluation_size_px = 4", "evaluation_size_px must be 8 or more, got 4"),
    ],
)
def test_stages_at_fault_are_refused_with_place_rule_and_value(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepochs = 2\n[schedule]\nwarmup_epochs = 3",
         r": schedule.warmup_epochs must be 2 or less \(the epochs .*, got 3"),
        ("[[stage]]\nepochs = 9\n[[stage]]\n[stage.schedule]\nkind = 'step'\n"
         "milestones = [1]\nwarmup_epochs = 1.5",
         r": stage.1.schedule.warmup_epochs must be 1 or less .*, got 1.5"),
        ("[[stage]]\nepochs = 9\n[[stage]]\n[schedule]\nwarmup_epochs = 2",
         r": schedule.warmup_epochs must be 1 or less"),
    ],
    ids=["of the run", "of a stage", "of the run in a short stage"],
)  # fmt: skip
def test_a_warm_up_that_never_reaches_the_peak_is_refused(tmp_path, text, message):
    config = load(tmp_path, text)
    with pytest.raises(SettingsError, match=message):
        resolve(config, write_toy_records(tmp_path / "records"))


def test_every_message_counts_stages_as_set_does(tmp_path):
    stages = "[[stage]]\nepochs = 9\n[[stage]]\n"
    for text in (
        f"{stages}dropout = 2",
        f"{stages}dropout = 'x'",
        f"{stages}loss_weights = [1, 2]",
    ):
        with pytest.raises(SettingsError, match=r"stage\.1\b"):
            load(tmp_path, text)


def test_predictions_of_a_size_that_the_records_lack_are_refused(tmp_path):
    config = load(tmp_path, "[data]\nevaluation_size_px = 64")
    with pytest.raises(SettingsError, match="evaluation_size_px must be 32 or less, got 64"):
        resolve(config, write_toy_records(tmp_path / "records"))
