"""`python -m trainer.export`: what a SavedModel takes, and that it gives what the run predicted."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.special
import simplejpeg
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import read_predictions, scores
from pipeline.records.manifest import read_rows
from pipeline.stream.render import decode, shrink
from records_factory import LABELS, write_toy_records
from trainer.averaging import ExponentialAverage
from trainer.baselines.__main__ import main as train_baselines
from trainer.export import main
from trainer.exported.columns import Columns
from trainer.exported.graph import predict_function, save_model
from trainer.exported.pixels import decode_squares, square
from trainer.exported.weights import load_trained
from trainer.loop import _float32
from trainer.models.backbones import set_normalization
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.precision import set_precision
from trainer.running.checkpoints import Checkpoints
from trainer.running.state import State
from trainer.task import main as train

RECIPE = """
[model]
backbone = "small-cnn"
fusion = "concat"
fusion_units = [8]
[optimizer]
learning_rate = 1e-2
[train]
epochs = 3
batch_size = 8
"""


def trained(folder, *flags):
    """A folder with toy `records` and a `run` of fold 1 of them."""
    write_toy_records(folder / "records")
    (folder / "recipe.toml").write_text(RECIPE)
    command = ["--records", str(folder / "records"), "--run", str(folder / "run")]
    command += ["--config", str(folder / "recipe.toml"), "--folds", "1", *flags]
    assert train(command) == 0
    return folder


def signature(folder):
    return tf.saved_model.load(str(folder / "run/export/fold1")).signatures["serving_default"]


def exported(folder):
    assert main(["--run", str(folder / "run")]) == 0
    return signature(folder)


def inputs_of(folder):
    """What the records hold of the rows of fold 1's predictions, raw, in their order."""
    rows = read_predictions(str(folder / "run" / "fold1")).frame["row"]
    table = read_rows(str(folder / "records")).set_index("row").loc[rows]
    shards = sorted(str(path) for path in (folder / "records").glob("*-fold1.tfrecord-*"))
    parsed = tf.io.parse_example(
        list(tf.data.TFRecordDataset(shards)),
        {"row": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)},
    )
    jpegs = dict(zip(parsed["row"].numpy(), parsed["image"].numpy(), strict=True))
    return {
        "image": tf.constant([jpegs[row] for row in rows]),
        "sex": tf.constant(table["sex"].tolist()),
        "age_approx": tf.constant(table["age_approx"].to_numpy(np.float32)),
    }


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """A run with metadata, exported."""
    folder = trained(tmp_path_factory.mktemp("fused"))
    assert main(["--run", str(folder / "run")]) == 0
    return folder


def test_jpegs_of_the_records_give_what_the_run_predicted(fused):
    predictions, outputs = (
        read_predictions(str(fused / "run")),
        signature(fused)(**inputs_of(fused)),
    )
    assert np.ptp(predictions.logits) > 0.1  # else anything would do
    np.testing.assert_allclose(outputs["logits"], predictions.logits, atol=1e-5)
    np.testing.assert_allclose(outputs["probs"], predictions.probs, atol=1e-5)
    np.testing.assert_allclose(outputs["score"], scores(predictions), atol=1e-5)
    assert {*outputs["classes"].numpy().ravel()} == {b"malignant"}


def test_averaged_weights_are_exported_at_the_size_at_which_they_predicted(tmp_path):
    flags = ("model.fusion=none", "optimizer.ema_decay=0.9", "data.image_size_px=24")
    flags = (*flags, "data.evaluation_size_px=32")
    trained(tmp_path, *(word for text in flags for word in ("--set", text)))
    outputs = exported(tmp_path)(image=inputs_of(tmp_path)["image"])
    expected = read_predictions(str(tmp_path / "run")).logits
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    about = json.loads((tmp_path / "run/export/fold1/model.json").read_text())
    assert (about["is_averaged"], about["image_size_px"]) == (True, 32)


def test_the_best_weights_are_exported_where_the_recipe_keeps_them(tmp_path):
    # The first epoch's weights rank all rows right, so that the second's rank them no better.
    flags = ("train.keep=best", "train.evaluate_every=1", "model.fusion=none", "train.epochs=2")
    trained(tmp_path, *(word for text in flags for word in ("--set", text)))
    outputs = exported(tmp_path)(image=inputs_of(tmp_path)["image"])
    expected = read_predictions(str(tmp_path / "run")).logits
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
    assert json.loads((tmp_path / "run/export/fold1/model.json").read_text())["step"] == 3
    assert (tmp_path / "run/fold1/checkpoints/step-00000006").is_dir()


def test_a_network_that_computed_in_few_bits_is_exported_in_float32(tmp_path):
    """In tf_keras its Normalization holds bfloat16; its numbers are of the checkpoint all the same.

    Published weights are not asked for.
    """
    config = ModelConfig(weights="imagenet")
    sizes = {"image_size_px": 32, "metadata_width": 0, "outputs": 1}
    set_precision("bfloat16")
    try:
        model = build_model(dataclasses.replace(config, weights=None), **sizes)
    finally:
        set_precision("float32")
    set_normalization(model.layers, [0.25, 0.5, 0.75], [0.5, 0.25, 0.125])
    average = ExponentialAverage(_float32(model.weights), decay=0.9)
    Checkpoints(str(tmp_path), {}).save(
        State(is_held=True, step=3), {"model": model, "average": average.state}
    )
    found = load_trained(config, str(tmp_path), {}, **sizes).model
    exact = build_model(dataclasses.replace(config, weights=None), **sizes)
    for weight, stored in zip(exact.weights, model.weights, strict=True):
        weight.assign(tf.cast(tf.convert_to_tensor(stored), weight.dtype))
    set_normalization(exact.layers, [0.25, 0.5, 0.75], [0.5, 0.25, 0.125])
    image = {"image": tf.random.stateless_uniform([2, 32, 32, 3], [1, 2])}
    expected = exact(image, training=False)["target"].numpy()
    np.testing.assert_allclose(found(image, training=False)["target"], expected, rtol=1e-4)
    assert found.dtype_policy.name == "float32"


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_score_is_that_of_the_positive_classes_where_there_are_any(kind):
    label = LABELS[kind]
    model = build_model(
        ModelConfig(backbone="small-cnn"), image_size_px=32, metadata_width=0, outputs=3
    )
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    jpegs = [simplejpeg.encode_jpeg(pixels, 90, "RGB", "444") for pixels in image]
    outputs = predict_function(model, 32, label)(image=tf.constant(jpegs))
    logits = outputs["logits"].numpy()
    if kind == "multiclass":
        np.testing.assert_allclose(outputs["probs"], scipy.special.softmax(logits, 1), rtol=1e-5)
        np.testing.assert_allclose(outputs["score"], outputs["probs"][:, 1], rtol=1e-5)
    else:
        np.testing.assert_allclose(outputs["probs"], scipy.special.expit(logits), rtol=1e-5)
        assert "score" not in outputs
    assert outputs["classes"].numpy().tolist() == [[name.encode() for name in label.classes]] * 2


def test_a_process_without_this_package_loads_and_predicts(fused, tmp_path):
    expected = read_predictions(str(fused / "run")).probs[:, 0]
    jpeg = inputs_of(fused)["image"].numpy()[0]
    (tmp_path / "lesion.jpg").write_bytes(jpeg)
    row = {name: values.numpy()[0] for name, values in inputs_of(fused).items()}
    program = f"""
import sys, tensorflow as tf
model = tf.saved_model.load({str(fused / "run" / "export" / "fold1")!r})
score = model.signatures["serving_default"](
    image=tf.constant([open("lesion.jpg", "rb").read()]),
    sex=tf.constant([{row["sex"].decode()!r}]),
    age_approx=tf.constant([float("{row["age_approx"]}")]),
)["score"]
assert not {{"trainer", "pipeline"}} & {{*sys.modules}}
print(float(score[0]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(expected[0], abs=1e-5)


def test_model_json_says_what_it_takes_gives_and_follows_from(fused):
    about = json.loads((fused / "run" / "export" / "fold1" / "model.json").read_text())
    predictions = read_predictions(str(fused / "run" / "fold1"))
    assert about["run"] == predictions.run
    assert (about["image_size_px"], about["classes"], about["positive"]) == (
        32,
        ["malignant"],
        ["malignant"],
    )
    assert [(column["column"], column["input"]) for column in about["columns"]] == [
        ("sex", "sex"),
        ("age_approx", "age_approx"),
    ]
    assert about["columns"][0]["known"] == ["female", "male"]


def test_model_json_says_how_the_records_were_made(fused, tmp_path, capsys):
    def records():
        return json.loads((tmp_path / "run/export/fold1/model.json").read_text())["records"]

    shutil.copytree(fused / "run", tmp_path / "run")
    manifest = json.loads((fused / "records/manifest.json").read_text())
    made = {key: manifest[key] for key in ("size", "render", "spec")}
    assert records() == made
    path = tmp_path / "run" / "records.json"
    there = json.loads(path.read_text())
    path.write_text(json.dumps({key: there[key] for key in {*there} - {*made}}))  # an older run's
    assert main(["--run", f"{tmp_path}/run"]) == 0
    assert records() is None
    assert main(["--run", f"{tmp_path}/run", "--records", f"{fused}/records"]) == 0
    assert records() == made
    path.write_text(path.read_text().replace('"render_digest": "', '"render_digest": "0'))
    assert main(["--run", f"{tmp_path}/run", "--records", f"{fused}/records"]) == 2
    assert "--records must be the run's own, got other render_digest" in capsys.readouterr().err


@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
def test_a_jpeg_of_the_models_size_is_decoded_to_the_streams_bits(subsampling):
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), np.uint8), (0, 0), 2)
    jpeg = simplejpeg.encode_jpeg(pixels, 90, "RGB", subsampling)
    [found] = decode_squares(tf.constant([jpeg]), 96).numpy()
    np.testing.assert_array_equal(found, decode(jpeg, 96))


def test_a_gray_jpeg_gives_three_equal_channels():
    jpeg = simplejpeg.encode_jpeg(np.full((40, 32, 1), 90, np.uint8), 90, "GRAY", "Gray")
    [found] = decode_squares(tf.constant([jpeg]), 16).numpy()
    assert (found == 90).all()


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (96, 128), (128, 128), (75, 50), (301, 224)]
)
def test_an_image_is_shrunk_as_the_stream_shrinks_it(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = square(tf.constant(image), 32).numpy().astype(int)
    differs = found != shrink(image, 32)
    if min(height, width) % 32:
        assert differs.mean() < 1e-3  # sums of float32 in another order, next to a half
    else:
        assert not differs.any()
    assert np.abs(found - shrink(image, 32)).max() <= 1


def test_an_image_that_is_too_small_is_enlarged_within_its_colours():
    image = np.zeros((20, 24, 3), np.uint8)
    image[:, 12:] = 255
    found = square(tf.constant(image), 32).numpy()
    assert found.shape == (32, 32, 3)
    assert (found[:, 0].max(), found[:, -1].min()) == (0, 255)


def test_columns_are_encoded_as_the_encoder_does():
    frame = pd.DataFrame({"site": ["leg", "", "arm", "leg"], "year": [2019.0, np.nan, 2020, 2021]})
    encoder = MetadataEncoder.fit(frame, ["site"], ["year"])
    met = pd.DataFrame({"site": ["arm", "", "neck"], "year": [2020.5, np.nan, np.inf]})
    columns = Columns(encoder)
    found = columns.encode(
        {
            "site": tf.constant(met["site"].tolist()),
            "year": tf.constant(met["year"].to_numpy(np.float32)),
        }
    )
    np.testing.assert_array_equal(found, encoder.encode(met))


def test_a_column_whose_name_is_no_identifier_has_an_input_that_is_one(tmp_path):
    frame = pd.DataFrame({"site (général)": ["leg"], "class": ["x"], "2nd": [1.0]})
    encoder = MetadataEncoder.fit(frame, ["site (général)", "class"], ["2nd"])
    columns = Columns(encoder)
    config = ModelConfig(backbone="small-cnn", fusion="concat", fusion_units=(4,))
    width = len(encoder.names)
    model = build_model(config, image_size_px=32, metadata_width=width, outputs=1)
    save_model(str(tmp_path), model, 32, LABELS["binary"], columns)
    saved = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert {*columns.names.values()} == {"site__g_n_ral_", "column_class", "column_2nd"}
    assert {*saved.structured_input_signature[1]} == {"image", *columns.names.values()}


def test_columns_whose_inputs_would_have_one_name_are_refused():
    clash = pd.DataFrame({"a b": ["x"], "a-b": ["x"]})
    with pytest.raises(SettingsError, match=r"columns must differ .* got another 'a_b' for 'a b'"):
        Columns(MetadataEncoder.fit(clash, ["a b", "a-b"], []))


def test_what_cannot_be_exported_is_refused(fused, tmp_path, capsys):
    assert main(["--run", str(tmp_path / "none")]) == 2
    assert "--run must be a run folder" in capsys.readouterr().err
    assert main(["--run", str(fused / "run"), "--folds", "0"]) == 2
    assert "--folds must be all, or among the complete 1, got '0'" in capsys.readouterr().err


def test_a_run_of_baselines_has_no_network_to_export(fused, tmp_path, capsys):
    flags = ["--models", "logistic", "--features", "metadata", "--class_weights", "none"]
    flags += ["--records", str(fused / "records"), "--run", str(tmp_path), "--draws", "5"]
    assert train_baselines(flags) == 0
    assert main(["--run", str(tmp_path / "logistic-metadata")]) == 2
    error = capsys.readouterr().err
    assert "must be a run of trainer.task, which has a network, got the baseline 'logis" in error


def test_a_fold_whose_checkpoint_is_of_another_training_is_refused(fused, tmp_path, capsys):
    shutil.copytree(fused / "run", tmp_path / "run")
    for state in (tmp_path / "run/fold1/checkpoints").glob("*/state.json"):
        state.write_text(state.read_text().replace('"shards_digest": "', '"shards_digest": "0'))
    assert main(["--run", str(tmp_path / "run")]) == 1
    assert "newest checkpoint must be whole and of the recipe" in capsys.readouterr().err
