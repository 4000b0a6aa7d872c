"""`trainer.config`: what a recipe may say, and what it may not, without TensorFlow."""

import pytest

from pipeline.errors import SettingsError
from records_factory import write_toy_records
from trainer.config import Config, load_config, resolve


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
        ("[model]\nweights = 'noisy'", "weights must be one of 'imagenet'"),
        ("[schedule]\nkind = 'cosine'", "did you mean 'warmup_cosine'"),
        ("[optimizer]\nkind = 'adamx'", "unknown kind 'adamx'; did you mean 'adam"),
        ("[[loss]]\nkind = 'bce'\n[[loss]]\nkind = 'focal'", r"loss\[1\]: unknown kind 'focal'"),
        ("[data]\nfolds = 1", "folds must be 2 or more, got 1"),
        ("[data]\ntrain = ['train']", "train and validation must be given together"),
        ("[data]\ntrain = ['a']\nvalidation = ['a']", "must share no part, got 'a' in both"),
        ("augment = ['transpose']", "augment must be tables such as .*, got 'transpose'"),
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
    with pytest.raises(SettingsError, match=r"--set train.epoch=7: train: unknown key 'epoch'"):
        load_config(path, ["train.epoch=7"])


def test_no_file_is_every_default():
    assert load_config(None) == Config()


def test_the_records_fill_in_sizes_folds_and_the_loss_of_their_label(tmp_path):
    for kind, loss in (("binary", "bce"), ("multiclass", "ce"), ("multilabel", "bce")):
        config = resolve(Config(), write_toy_records(tmp_path / kind, kind=kind))
        assert (config.data.image_size_px, config.data.folds) == (32, 4)
        assert [term.kind for term in config.loss] == [loss]


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["data.image_size_px=64"], "binary", "must be 32 or less, got 64; make records"),
        (["loss.kind=ce"], "binary", "bce or sigmoid_focal for a binary label, got 'ce'"),
        ([], "none", "must have a label to train on"),
    ],
)
def test_a_recipe_that_the_records_cannot_serve_is_refused(tmp_path, overrides, kind, message):
    manifest = write_toy_records(tmp_path, kind=kind)
    with pytest.raises(SettingsError, match=message):
        resolve(load_config(None, overrides), manifest)
