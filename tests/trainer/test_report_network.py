"""Grad-CAM and feature maps: against what a linear head lets one write down, and paged."""

import base64
import re

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf

from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.report.__main__ import main
from trainer.report.network.draw import channel_sheet, overlay
from trainer.report.network.maps import grad_cams, last_map, layer_maps
from trainer.report.page.pictures import PICTURE_PX
from trainer.task import main as train

RECIPE = """
[model]
backbone = "small-cnn"
fusion = "concat"
fusion_units = [8]
[optimizer]
learning_rate = 1e-5  # it must make mistakes
[train]
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="module")
def network():
    """A small network of three exclusive classes, images of it, and its last map of them."""
    tf.keras.utils.set_random_seed(3)
    config = ModelConfig(backbone="small-cnn")
    model = build_model(config, image_size_px=64, metadata_width=0, outputs=3)
    images = np.random.default_rng(0).random((18, 64, 64, 3), np.float32)  # more than a batch
    inside = tf.keras.Model(model.input, model.get_layer("block5_relu").output)
    head = model.get_layer("target").get_weights()[0]
    return model, {"image": images}, inside({"image": images}, training=False).numpy(), head


def close(found, expected):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["for", "against"])
def test_behind_an_average_and_a_linear_head_it_is_the_map_times_the_heads_weights(network, sign):
    model, inputs, features, head = network
    found = grad_cams(model, inputs, [[1]] * 18, [sign] * 18)
    close(found, np.maximum(sign * features @ head[:, 1], 0) / 4)  # 2 x 2 places


def test_a_score_of_several_classes_is_explained_by_its_log_odds(network):
    model, inputs, features, head = network
    logits = model(inputs, training=False)["target"].numpy().astype(np.float64)
    inside = np.exp(logits) * [1, 0, 1] / (np.exp(logits) * [1, 0, 1]).sum(axis=1, keepdims=True)
    slopes = (inside - [0, 1, 0]) @ head.T  # of log(e^a + e^c) - b
    expected = np.maximum((features * slopes[:, None, None]).sum(axis=3), 0) / 4
    close(grad_cams(model, inputs, [[0, 2]] * 18, [1.0] * 18), expected)


def test_another_layer_gives_a_finer_map(network):
    model, inputs, _, _ = network
    cams = grad_cams(model, inputs, [[0]] * 18, [1.0] * 18, "block3_relu")
    assert cams.shape == (18, 8, 8)
    assert np.ptp(cams) > 0


def test_each_example_is_asked_about_its_own_class(network):
    model, inputs, _, _ = network
    mixed = grad_cams(model, inputs, [[place % 3] for place in range(18)], [1.0] * 18)
    alone = [grad_cams(model, inputs, [[of]] * 18, [1.0] * 18) for of in range(3)]
    np.testing.assert_allclose(mixed, [alone[place % 3][place] for place in range(18)], rtol=1e-4)


def test_a_backbone_that_ends_flat_is_seen_through_its_last_map_of_several_places():
    config = ModelConfig(backbone="conv-64-32")
    model = build_model(config, image_size_px=32, metadata_width=0, outputs=1)
    height, width = last_map(model).shape[1:3]
    assert height == width > 1
    model.trainable = False
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    cams = grad_cams(model, {"image": images}, [[0]] * 2, [1.0] * 2)
    assert cams.shape == (2, height, width)
    assert np.ptp(cams) > 0


def test_layers_give_their_maps(network):
    model, inputs, features, _ = network
    found = layer_maps(model, inputs, ["block5_relu", "block1_conv"])
    np.testing.assert_allclose(found["block5_relu"], features, rtol=1e-5)
    assert found["block1_conv"].shape == (18, 32, 32, 16)


def test_an_overlay_warms_the_place_of_the_map_and_leaves_the_rest_as_it_was():
    grey, cam = np.full((64, 64, 3), 90, np.uint8), np.zeros((8, 8), np.float32)
    cam[1, 6] = 0.02
    drawn = simplejpeg.decode_jpeg(overlay(grey, cam)).astype(int)
    assert drawn.shape == (PICTURE_PX, PICTURE_PX, 3)
    apart = np.abs(drawn - 90).max(axis=2)
    top, left = np.unravel_index(apart.argmax(), apart.shape)
    assert abs(top - 1.5 * PICTURE_PX / 8) < 12
    assert abs(left - 6.5 * PICTURE_PX / 8) < 12
    assert apart[PICTURE_PX // 2 :].max() <= 3
    plain = simplejpeg.decode_jpeg(overlay(grey, np.zeros((8, 8), np.float32))).astype(int)
    assert np.abs(plain - 90).max() <= 3


@pytest.mark.parametrize(("channels", "height"), [(1, 68), (5, 140), (64, 284)])
def test_a_sheet_holds_sixteen_channels_at_most(channels, height):
    maps = np.random.default_rng(0).normal(size=(4, 4, channels)).astype(np.float32)
    assert simplejpeg.decode_jpeg(channel_sheet(maps)).shape == (height, 284, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Toy records, and a fused run of two of their folds."""
    folder = tmp_path_factory.mktemp("looked")
    write_toy_records(folder / "records", rows=80)
    (folder / "recipe.toml").write_text(RECIPE)
    flags = ["--records", str(folder / "records"), "--run", str(folder / "run")]
    assert train([*flags, "--config", str(folder / "recipe.toml"), "--folds", "0,1"]) == 0
    return folder


def report(folder, out, *flags):
    page = out / "report.html"
    return main([str(folder / "run"), "--output", str(page), "--draws", "5", *flags]), page


def test_mistakes_have_an_overlay_each_and_layers_a_sheet_of_the_grids_ends(trained, tmp_path):
    flags = ["--records", str(trained / "records"), "--grad_cam"]
    code, page = report(trained, tmp_path, *flags, "--feature_maps", "block2_relu,block4_bn")
    assert code == 0
    images = dict(
        re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page.read_text())
    )
    names = list(images.values())
    overlays = [name for name in names if name.startswith("Grad-CAM of ")]
    known = set(read_predictions(str(trained / "run")).frame["id"])
    assert overlays
    assert {name.removeprefix("Grad-CAM of ") for name in overlays} <= known
    sheets = [name for name in names if " of " in name and name not in overlays]
    assert [name.partition(" of ")[0] for name in sheets] == ["block2_relu", "block4_bn"] * 2
    for data in images:
        simplejpeg.decode_jpeg(base64.b64decode(data))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--feature_maps", "block2_relo"], "did you mean 'block2_relu'?"),
        (
            ["--grad_cam", "--grad_cam_layer", "block9"],
            "--grad_cam_layer: 'block9' must be a layer",
        ),
        (["--grad_cam_layer", "block2_relu"], "--grad_cam must be given with it"),
        (["--feature_maps", "head_pool"], "'head_pool' must be a layer whose output is a map"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(trained, tmp_path, capsys, flags, said):
    code, page = report(trained, tmp_path, "--records", str(trained / "records"), *flags)
    assert code == 2
    assert said in capsys.readouterr().err
    assert not page.exists()


def test_networks_are_asked_about_the_records_they_were_trained_on_alone(trained, tmp_path, capsys):
    assert report(trained, tmp_path, "--grad_cam")[0] == 2
    assert "--grad_cam: --records must be given with it" in capsys.readouterr().err
    manifest = trained / "records" / "manifest.json"
    text = manifest.read_text()
    other = tmp_path / "other"
    write_toy_records(other, rows=80)
    digest = re.search(r'"render_digest": "(\w+)"', text)[1]
    (other / "manifest.json").write_text(text.replace(digest, "0" * 64))
    assert report(trained, tmp_path, "--records", str(other), "--grad_cam")[0] == 2
    assert "of another render digest" in capsys.readouterr().err


def test_without_a_run_of_networks_there_is_nobody_to_ask(trained, tmp_path, capsys):
    file = str(trained / "run" / "predictions.parquet")
    flags = ["--records", str(trained / "records"), "--grad_cam"]
    assert main([file, "--output", str(tmp_path / "report.html"), *flags]) == 2
    assert "must be the folder of one that trainer.task trained" in capsys.readouterr().err
