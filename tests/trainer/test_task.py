"""`python -m trainer.task` from end to end on toy records."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.metadata import MetadataEncoder
from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_rows
from pipeline.stream.batches import evaluation_batches, to_float
from pipeline.stream.records import open_records
from records_factory import write_toy_records
from trainer.config import load_config
from trainer.models.build import build_model
from trainer.running.checkpoints import newest_weights
from trainer.task import main

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
[[augment]]
op = "flip_left_right"
[model]
backbone = "small-cnn"
[train]
epochs = 2
batch_size = 8
"""


def train(records, run, *flags, recipe=RECIPE):
    path = run.parent / "recipe.toml"
    path.write_text(recipe)
    return main(["--records", str(records), "--run", str(run), "--config", str(path), *flags])


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """Toy records and a fused run of folds 1 and 3 of them."""
    folder = tmp_path_factory.mktemp("binary")
    write_toy_records(folder / "records")
    flags = ("--folds", "1,3", "--set", "model.fusion=concat")
    assert train(folder / "records", folder / "run", *flags) == 0
    return folder


def test_out_of_fold_rows_are_the_validation_rows_of_the_folds_trained(binary):
    rows = read_rows(str(binary / "records"))
    expected = rows[rows["fold"].isin([1, 3])].reset_index(drop=True)
    frame = read_predictions(str(binary / "run")).frame
    for column in ("row", "id", "group", "part", "fold", "target"):
        assert frame[column].tolist() == expected[column].tolist(), column
    for fold in (1, 3):
        alone = read_predictions(str(binary / "run" / f"fold{fold}")).frame
        assert set(alone["fold"]) == {fold}


def test_probabilities_are_those_of_the_logits(binary):
    predictions = read_predictions(str(binary / "run"))
    expected = 1 / (1 + np.exp(-predictions.logits))
    np.testing.assert_allclose(predictions.probs, expected, rtol=1e-5)


def test_each_epoch_has_a_line_of_metrics(binary):
    lines = (binary / "run" / "fold1" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["epoch"], second["epoch"], second["step"]) == (1, 2, 6)
    assert second["loss"] > 0
    assert second["learning_rate"] == 0
    assert "validation" not in first
    assert 0 <= second["validation"]["auc"] <= 1


def test_the_encoder_is_of_the_training_rows_alone(binary):
    text = (binary / "run" / "fold1" / "metadata.json").read_text()
    rows = read_rows(str(binary / "records"))
    expected = MetadataEncoder.fit(rows[rows["fold"] != 1], ["sex"], ["age_approx"])
    assert MetadataEncoder.from_json(text) == expected


def test_the_checkpoint_holds_the_weights_that_predicted(binary):
    fold = binary / "run" / "fold1"
    encoder = MetadataEncoder.from_json((fold / "metadata.json").read_text())
    config = load_config(str(binary / "run" / "config.toml"))
    width = len(encoder.names)
    model = build_model(config.model, image_size_px=32, metadata_width=width, outputs=1)
    prefix = newest_weights(str(fold / "checkpoints"))
    assert prefix.endswith("step-00000006/weights")
    tf.train.Checkpoint(model=model).read(prefix).assert_existing_objects_matched()
    metadata = encoder.encode(read_rows(str(binary / "records")))
    batches = evaluation_batches(
        open_records(str(binary / "records")), ["fold1"], batch_size=10, metadata=metadata
    )
    [(inputs, _, _)] = batches
    order = np.argsort(inputs["row"])
    inputs = {"image": to_float(inputs["image"]), "metadata": inputs["metadata"]}
    logits = model(inputs, training=False)["target"].numpy()[order]
    np.testing.assert_allclose(logits, read_predictions(str(fold)).logits, atol=1e-5)


def test_the_resolved_recipe_is_a_recipe(binary):
    config = load_config(str(binary / "run" / "config.toml"))
    assert config.model.fusion == "concat"
    assert config.data.image_size_px == 32
    assert config.augment == ({"op": "flip_left_right"},)


def test_the_same_command_again_skips_what_is_complete(binary, capsys):
    before = (binary / "run" / "predictions.parquet").read_bytes()
    flags = ("--folds", "1,3", "--set", "model.fusion=concat")
    assert train(binary / "records", binary / "run", *flags) == 0
    printed = capsys.readouterr().out
    assert "fold 1 is complete: skipped" in printed
    assert "epoch" not in printed
    assert (binary / "run" / "predictions.parquet").read_bytes() == before


def test_another_recipe_in_the_same_run_is_refused_by_what_differs(binary, capsys):
    flags = ("--set", "model.fusion=concat", "--set", "train.epochs=3")
    assert train(binary / "records", binary / "run", *flags) == 2
    assert "train.epochs (there 2, asked 3)" in capsys.readouterr().err


def test_fresh_replaces_a_run_of_another_recipe_and_the_same_seed_gives_the_same(tmp_path):
    write_toy_records(tmp_path / "records", rows=24)
    assert train(tmp_path / "records", tmp_path / "run", "--folds", "0,1") == 0
    wanted = ("--folds", "0", "--set", "train.epochs=1")
    assert train(tmp_path / "records", tmp_path / "run", "--fresh", *wanted) == 0
    replaced = read_predictions(str(tmp_path / "run")).frame
    assert set(replaced["fold"]) == {0}  # fold 1 is of the older recipe
    assert train(tmp_path / "records", tmp_path / "other", *wanted) == 0
    again = read_predictions(str(tmp_path / "other")).frame
    np.testing.assert_array_equal(again["logit_malignant"], replaced["logit_malignant"])


@pytest.mark.parametrize(
    ("kind", "outputs"), [("multiclass", ["nv", "mel", "bkl"]), ("multilabel", ["mass"])]
)
def test_labels_of_every_kind_train_and_report(tmp_path, capsys, kind, outputs):
    write_toy_records(tmp_path / "records", kind=kind)
    flags = ("--folds", "0", "--set", "train.evaluate_every=1")
    assert train(tmp_path / "records", tmp_path / "run", *flags) == 0
    predictions = read_predictions(str(tmp_path / "run"))
    assert {f"prob_{name}" for name in outputs} <= set(predictions.frame.columns)
    if kind == "multiclass":
        np.testing.assert_allclose(predictions.probs.sum(axis=1), 1, rtol=1e-5)
    lines = (tmp_path / "run" / "fold0" / "metrics.jsonl").read_text().splitlines()
    assert all(0 <= json.loads(line)["validation"]["auc"] <= 1 for line in lines)
    assert "pooled     AUC 0." in capsys.readouterr().out.replace("AUC 1.", "AUC 0.")


def test_merged_folds_keep_the_records_part(tmp_path):
    write_toy_records(tmp_path / "records")
    flags = ("--folds", "1", "--set", "data.folds=2", "--set", "train.epochs=1")
    assert train(tmp_path / "records", tmp_path / "run", *flags) == 0
    frame = read_predictions(str(tmp_path / "run")).frame
    assert set(frame["fold"]) == {1}
    assert set(frame["part"]) == {"fold1", "fold3"}


def test_given_parts_train_as_fold_0_and_one_class_of_validation_has_no_auc(tmp_path, capsys):
    parts = ("train", "val", "unlabelled")
    write_toy_records(tmp_path / "records", parts=parts, unlabelled=("val",))
    recipe = '[data]\ntrain = ["train"]\nvalidation = ["val"]\n' + RECIPE
    assert train(tmp_path / "records", tmp_path / "run", recipe=recipe) == 0
    frame = read_predictions(str(tmp_path / "run" / "fold0")).frame
    assert set(frame["part"]) == {"val"}
    assert set(frame["fold"]) == {-1}
    printed = capsys.readouterr().out
    assert printed.count("fold 0: AUC is n/a, for its validation rows are of one class") == 1
    assert "val        AUC n/a" in printed
    assert "fold  -1" not in printed


def test_an_unknown_op_leaves_no_run_behind(binary, tmp_path, capsys):
    recipe = RECIPE.replace("flip_left_right", "flip_left_rigt")
    assert train(binary / "records", tmp_path / "run", recipe=recipe) == 2
    assert "did you mean 'flip_left_right'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "flags", "message"),
    [
        (RECIPE.replace("flip_left_right", "flip_left_rigt"), [], "did you mean 'flip_left_right'"),
        (RECIPE, ["--replicas", "3"], "must be a multiple of the 3 replicas, got 8"),
        (RECIPE, ["--replicas", "0"], "--replicas must be 1 or more, got 0"),
    ],
)
def test_what_the_command_line_has_wrong_is_told_without_tensorflow(
    binary, tmp_path, recipe, flags, message
):
    (tmp_path / "recipe.toml").write_text(recipe)
    words = ["--records", f"{binary}/records", "--run", f"{tmp_path}/run"]
    words += ["--config", f"{tmp_path}/recipe.toml", *flags]
    code = (
        "import sys\n"
        "from trainer.task import main\n"
        f"code = main({words!r})\n"
        "assert 'tensorflow' not in sys.modules\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow  # EfficientNet takes half a minute and more to build and trace
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_recipe_for_real_images_takes_a_step_on_every_label(tmp_path, kind):
    write_toy_records(tmp_path / "records", rows=16, parts=("fold0", "fold1"), kind=kind)
    recipe = (ROOT / "configs" / "b0.toml").read_text()
    flags = ("--folds", "0", "--set", "train.epochs=1", "--set", "train.batch_size=8")
    assert train(tmp_path / "records", tmp_path / "run", *flags, recipe=recipe) == 0
    assert len(read_predictions(str(tmp_path / "run")).frame) == 8
