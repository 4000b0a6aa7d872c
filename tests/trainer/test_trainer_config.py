"""`trainer.config`: what a recipe may say, and what it may not, without TensorFlow."""

import dataclasses
import itertools
import typing
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import to_toml
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.sampling import PositiveShare
from records_factory import write_toy_records
from trainer.config import Config, load_config, resolve
from trainer.losses import LossConfig

ROOT = Path(__file__).resolve().parents[2]


def recipe(tmp_path, text):
    (tmp_path / "recipe.toml").write_text(text)
    return str(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3", r"recipe.toml: train: unknown key 'epoch'; did you mean 'epochs'"),
        ("[trian]\nepochs = 3", "unknown key 'trian'; did you mean 'train'"),
        ("[train]\nepochs = 'three'", "train: epochs must be a whole number, got 'three'"),
        ("[train]\nepochs = 0", "train: epochs must be 1 or more, got 0"),
        ("[model]\nbackbone = 'efficientnet-b9'", "did you mean 'efficientnet-b"),
        ("[model]\nweights = 'noisy'", "weights must be 'imagenet', 'noisy-student'"),
        ("[schedule]\nkind = 'cosin'", "did you mean 'cosine'"),
        ("[optimizer]\nkind = 'adamx'", "unknown kind 'adamx'; did you mean 'adam"),
        ("[[loss]]\nkind = 'bce'\n[[loss]]\nkind = 'focl'", r"loss.1: unknown kind 'focl'"),
        ("loss = []", "loss must have a term, got none"),
        ("[data]\nfolds = 1", "folds must be 2 or more, got 1"),
        ("[data]\ntrain = ['train']", "train and validation must be given together"),
        ("[data]\ntrain = ['a']\nvalidation = ['a']", "must share no part, got 'a' in both"),
        ("augment = ['transpose']", "augment must be tables such as .*, got 'transpose'"),
        ("[data]\nsampling = 'even'", "sampling must be 'natural' or 'balanced' or a table of pos"),
        ("[data]\ncache = true", "cache must be one of 'auto', 'memory', 'disk', 'none', got True"),
        ("[[extra]]\nweight = 0.5", "extra: 'records' must be given"),
        ("[train", "not valid TOML"),
    ],
)
def test_a_recipe_at_fault_is_refused_with_place_rule_and_value(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load_config(recipe(tmp_path, text))


def test_set_lies_on_top_of_the_file_and_says_so_when_at_fault(tmp_path):
    path = recipe(tmp_path, "[train]\nepochs = 3\nseed = 5")
    config = load_config(path, ["train.epochs=7", "model.fusion=concat"])
    assert (config.train.epochs, config.train.seed, config.model.fusion) == (7, 5, "concat")
    assert load_config(path, ["model.fusion=concat", "model.fusion=none"]).model.fusion is None
    message = r"recipe.toml --set train.seed=1 --set train.epoch=7: train: unknown key 'epoch'"
    with pytest.raises(SettingsError, match=message):
        load_config(path, ["train.seed=1", "train.epoch=7"])


def test_settings_that_ask_for_each_other_may_come_in_any_order(tmp_path):
    path = recipe(tmp_path, "[loss]\nkind = 'focal'\nalpha = 0.5")
    parts = ["data.train=train", 'data.validation=["val"]']
    for overrides in itertools.permutations(["loss.kind=bce", "loss.alpha=none", *parts]):
        config = load_config(path, overrides)
        assert config.loss == (LossConfig(kind="bce"),)
        assert (config.data.train, config.data.validation) == (("train",), ("val",))


@pytest.mark.parametrize(
    "text", ["data.sampling.positive_share=0.1", "data.sampling={positive_share = 0.1}"]
)
def test_a_share_of_positives_may_be_set_on_the_command_line(tmp_path, text):
    path = recipe(tmp_path, "[data.sampling]\npositive_share = 0.5")
    assert load_config(path, [text]).data.sampling == PositiveShare(positive_share=0.1)
    assert load_config(path, ["data.sampling=balanced"]).data.sampling == "balanced"


def test_a_cache_may_be_set_to_the_word_none():
    assert load_config(None, ["data.cache=none"]).data.cache == "none"


def test_classes_of_several_labels_are_not_sampled(tmp_path):
    config = load_config(None, ["data.sampling=balanced"])
    with pytest.raises(SettingsError, match=r"data.sampling must be 'natural' .* multilabel"):
        resolve(config, write_toy_records(tmp_path, kind="multilabel"))


def test_a_table_set_to_none_is_the_default_one(tmp_path):
    path = recipe(tmp_path, "[loss]\nkind = 'focal'\n[[augment]]\nop = 'transpose'")
    assert load_config(path, ["loss=none", "augment=none"]) == Config()


def float_settings(cls=Config, prefix=""):
    """The dotted key of every setting that takes a number with a fraction."""
    for name, hint in typing.get_type_hints(cls).items():
        args = [arg for arg in (hint, *typing.get_args(hint)) if isinstance(arg, type)]
        if float in args:
            yield prefix + name
        for table in filter(dataclasses.is_dataclass, args):
            yield from float_settings(table, f"{prefix}{name}.")


FLOATS = sorted(float_settings())


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", FLOATS)
def test_no_setting_takes_a_number_that_is_none_or_infinite(key, value):
    overrides = ["loss.kind=focal", "extra.records=other/256", f"{key}={value}"]
    with pytest.raises(SettingsError, match=rf"{key.split('.')[-1]} must be .*got {value}"):
        load_config(None, overrides)


def test_the_settings_just_tried_are_all_there_are():
    some = {"optimizer.learning_rate", "loss.alpha", "schedule.factor", "stage.group_rates.head"}
    assert some < {*FLOATS}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("name", ["demo", "b0"])
def test_a_recipe_of_ours_fits_records_of_every_label(tmp_path, name, kind):
    path = str(ROOT / "configs" / f"{name}.toml")
    config = resolve(
        load_config(path, ["data.image_size_px=none"]), write_toy_records(tmp_path, kind=kind)
    )
    assert build_ops(config.augment)
    assert [term.kind.split("_")[1] for term in config.loss] == ["focal"]


def test_no_file_is_every_default():
    assert load_config(None) == Config()


def test_the_records_fill_in_sizes_folds_and_the_loss_of_their_label(tmp_path):
    for kind, loss in (("binary", "bce"), ("multiclass", "ce"), ("multilabel", "bce")):
        config = resolve(Config(), write_toy_records(tmp_path / kind, kind=kind))
        assert (config.data.image_size_px, config.data.folds) == (32, 4)
        assert [term.kind for term in config.loss] == [loss]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["loss.kind=focal", "loss.class_weights=balanced", "optimizer.learning_rate_per_256=true"],
        ["loss.class_weights=[[1, 5], [0.5, 2], [1, 1]]", "schedule.kind=ramp_hold_decay"],
        ["loss.kind=asymmetric", "schedule.kind=step", "schedule.milestones=[2, 4.5]"],
        ["loss.kind=soft_f1", "optimizer.kind=rmsprop", "schedule.kind=on_plateau"],
        ["extra.records=other/256", "extra.weight=0.5", "data.cache=disk"],
    ],
)
def test_a_resolved_recipe_written_down_is_the_same_recipe(tmp_path, overrides):
    manifest = write_toy_records(tmp_path, kind="multilabel")
    config = resolve(load_config(None, [*overrides, "train.evaluate_every=1"]), manifest)
    path = recipe(tmp_path, to_toml(config))
    assert resolve(load_config(path), manifest) == config


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["data.image_size_px=64"], "binary", "must be 32 or less, got 64; make records"),
        (["loss.kind=ce"], "binary", "asymmetric, sigmoid_f1 for a binary label, got 'ce'"),
        ([], "none", "must have a label to train on"),
    ],
)
def test_a_recipe_that_the_records_cannot_serve_is_refused(tmp_path, overrides, kind, message):
    manifest = write_toy_records(tmp_path, kind=kind)
    with pytest.raises(SettingsError, match=message):
        resolve(load_config(None, overrides), manifest)
