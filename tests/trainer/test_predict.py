"""`python -m trainer.predict` on records: what it predicts, by which folds, and how it goes on."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_rows
from pipeline.stream.batches import evaluation_batches, to_float
from pipeline.stream.records import open_records
from records_factory import write_toy_records
from trainer.predict import build_parser, main, request_of
from trainer.prediction import fold as prediction_fold
from trainer.prediction.members import read_members
from trainer.task import main as train
from trainer.trained_run import read_trained_run

RECIPE = """
[data]
image_size_px = 24
[[augment]]
op = "flip_left_right"
[[augment]]
op = "brightness"
max_delta = 0.3
[model]
backbone = "small-cnn"
fusion = "concat"
fusion_units = [8]
[optimizer]
learning_rate = 1e-2
[train]
epochs = 2
batch_size = 8
"""
PARTS = ("fold0", "fold1", "holdout", "test")
VIEWS = {
    "1": 1, "3": 3, "flips": 8, "crops9": 9, "crops16": 16, "crops25": 25, "crops36": 36,
    "scales4flips4": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Records of 32 px, and a run of both of their folds on 24."""
    folder = tmp_path_factory.mktemp("predict")
    write_toy_records(folder / "records", rows=48, parts=PARTS, unlabelled=("test",))
    (folder / "recipe.toml").write_text(RECIPE)
    words = ["--records", f"{folder}/records", "--run", f"{folder}/run"]
    assert train([*words, "--config", f"{folder}/recipe.toml"]) == 0
    return folder


def predict(home, output, *flags):
    """The table that a command on the run writes."""
    words = ["--run", f"{home}/run", "--records", f"{home}/records", "--output", str(output)]
    assert main([*words, *flags]) == 0
    return read_predictions(str(output))


def by_hand(home, fold, part, transform):
    """Rows, and the logits [N, V, 1] of the fold's model on the pictures that `transform` makes."""
    run, records = read_trained_run(f"{home}/run"), open_records(f"{home}/records")
    metadata = run.encoder(fold).encode_by_row(read_rows(records.folder))
    model, rows, logits = run.load(fold).model, [], []
    for inputs, _, _ in evaluation_batches(records, [part], batch_size=1, cache="none"):
        [image], [row] = inputs["image"].numpy(), inputs["row"].numpy()
        views = np.stack(transform(image))
        told = tf.constant(metadata[[row] * len(views)])
        rows.append(row)
        output = model({"image": to_float(views), "metadata": told}, training=False)
        logits.append(output["target"].numpy())
    order = np.argsort(rows)
    return np.array(rows)[order], np.array(logits)[order]


def crops_by_hand(image):
    return [image[y : y + 24, x : x + 24] for y in (0, 4, 8) for x in (0, 4, 8)]


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_one_view_is_what_the_run_itself_predicted(home):
    before = (home / "run/predictions.parquet").read_bytes()
    words = ["--run", f"{home}/run", "--records", f"{home}/records"]
    assert main(words) == 0
    found = read_predictions(f"{home}/run/predictions-oof-1.parquet")
    own = read_predictions(f"{home}/run")
    assert np.ptp(own.logits) > 0.1  # else anything would do
    keys = ["row", "id", "group", "part", "fold", "target"]
    assert found.frame[keys].equals(own.frame[keys])
    np.testing.assert_allclose(found.logits, own.logits, atol=1e-5)
    np.testing.assert_allclose(found.probs, own.probs, atol=1e-6)
    assert (home / "run/predictions.parquet").read_bytes() == before


@pytest.mark.parametrize("views", VIEWS)
def test_every_view_set_predicts_each_row_once_in_order(home, tmp_path, views):
    flags = ("--views", views, "--keep_views", "--folds", "0")
    found = predict(home, tmp_path / "out.parquet", *flags)
    own = read_predictions(f"{home}/run/fold0")
    assert found.frame["row"].tolist() == own.frame["row"].tolist()
    kept = [name for name in found.frame.columns if name.startswith("view")]
    assert kept == [f"view{view}_prob_malignant" for view in range(VIEWS[views])]
    np.testing.assert_allclose(found.frame[kept].mean(axis=1), found.probs[:, 0], atol=1e-6)
    if VIEWS[views] > 1:
        assert (found.frame[kept].std(axis=1) > 0).all()


def test_a_view_set_is_the_models_mean_over_these_pictures(home, tmp_path):
    found = predict(home, tmp_path / "out.parquet", "--views", "crops9", "--part", "fold1")
    rows, logits = by_hand(home, 1, "fold1", crops_by_hand)
    assert found.frame["row"].tolist() == rows.tolist()
    np.testing.assert_allclose(found.probs, sigmoid(logits).mean(axis=1), atol=1e-5)
    assert (found.frame["fold"] == 1).all()


def test_crops_of_models_that_same_size_crop_did_not_train_are_warned_of(home, caplog):
    words = ["--run", f"{home}/run", "--records", f"{home}/records", "--views"]
    for views, lines in (("flips", 0), ("crops9", 1)):
        request = request_of(build_parser().parse([*words, views]))
        read_members(request, open_records(request.records))
        assert caplog.text.count("its recipe has no same_size_crop") == lines


def test_a_part_outside_folds_is_the_mean_over_all_folds(home, tmp_path):
    found = predict(home, tmp_path / "out.parquet", "--part", "holdout", "--views", "crops9")
    folds = [by_hand(home, fold, "holdout", crops_by_hand)[1] for fold in (0, 1)]
    expected = np.mean([sigmoid(logits).mean(axis=1) for logits in folds], axis=0)
    np.testing.assert_allclose(found.probs, expected, atol=1e-5)
    assert {*found.frame["fold"]} == {-1}
    assert {*found.frame["part"]} == {"holdout"}
    assert found.run["folds"] == [0, 1]
    one = predict(home, tmp_path / "one.parquet", "--part", "holdout", "--folds", "1")
    assert one.run["folds"] == [1]


def test_rows_without_a_target_are_predicted_as_well(home, tmp_path):
    found = predict(home, tmp_path / "out.parquet", "--part", "test", "--average", "rank")
    assert (found.targets == -1).all()
    assert len(found.frame) == 12


def test_batch_size_changes_nothing_that_matters(home, tmp_path):
    flags = ("--part", "holdout", "--folds", "1", "--views", "3")
    tables = [
        predict(home, tmp_path / f"{size}.parquet", *flags, "--batch_size", size)
        for size in ("1", "64")
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(table.logits, tables[0].logits, atol=1e-5)


def test_replicas_change_nothing_that_matters(home, tmp_path):
    flags = ["--part", "holdout", "--folds", "1", "--views", "3"]
    one = predict(home, tmp_path / "one.parquet", *flags)
    words = ["--run", f"{home}/run", "--records", f"{home}/records", *flags]
    words += ["--output", f"{tmp_path}/two.parquet", "--replicas", "2"]
    command = [sys.executable, "-m", "trainer.predict", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    two = read_predictions(f"{tmp_path}/two.parquet")
    assert two.frame["row"].tolist() == one.frame["row"].tolist()
    np.testing.assert_allclose(two.logits, one.logits, atol=1e-5)


def test_bfloat16_agrees_to_its_two_digits(home, tmp_path):
    flags = ("--part", "holdout", "--folds", "0")
    exact = predict(home, tmp_path / "exact.parquet", *flags)
    low = predict(home, tmp_path / "low.parquet", *flags, "--precision", "bfloat16")
    assert (low.probs != exact.probs).any()
    np.testing.assert_allclose(low.probs, exact.probs, atol=0.02)


def test_a_command_that_was_stopped_goes_on_after_its_last_whole_fold(home, tmp_path, monkeypatch):
    flags = ("--views", "3")
    whole = predict(home, tmp_path / "whole.parquet", *flags)
    real, asked = prediction_fold.predict_fold, []

    def failing(run, assigned, *others, **settings):
        asked.append(assigned.number)
        if asked == [0, 1]:
            raise KeyboardInterrupt
        return real(run, assigned, *others, **settings)

    monkeypatch.setattr(prediction_fold, "predict_fold", failing)
    with pytest.raises(KeyboardInterrupt):
        predict(home, tmp_path / "out.parquet", *flags)
    assert not (tmp_path / "out.parquet").exists()
    again = predict(home, tmp_path / "out.parquet", *flags)
    assert asked == [0, 1, 1]
    assert again.frame.equals(whole.frame)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_another_average_predicts_nothing_again(home, tmp_path, monkeypatch):
    by_prob = predict(home, tmp_path / "out.parquet", "--views", "flips")
    monkeypatch.setattr(prediction_fold, "predict_fold", None)
    by_logit = predict(home, tmp_path / "out.parquet", "--views", "flips", "--average", "logit")
    assert by_logit.run["average"] == "logit"
    assert (by_logit.probs != by_prob.probs).any()


def test_a_damaged_or_other_fold_file_is_predicted_anew(home, tmp_path):
    flags = ("--folds", "0")
    whole = predict(home, tmp_path / "out.parquet", *flags, "--views", "flips")
    first = tmp_path / "out.folds/fold0.npz"
    first.write_bytes(first.read_bytes()[:100])
    again = predict(home, tmp_path / "out.parquet", *flags, "--views", "flips")
    assert again.frame.equals(whole.frame)
    other = predict(home, tmp_path / "out.parquet", *flags)
    assert other.run["views"] == "1"
    assert not other.frame.equals(whole.frame)


@pytest.mark.slow  # two starts of TensorFlow
def test_a_killed_command_ends_with_the_file_of_one_that_never_was(home, tmp_path):
    flags = ["--views", "crops36", "--batch_size", "1"]
    whole = predict(home, tmp_path / "whole.parquet", *flags)
    words = ["--run", f"{home}/run", "--records", f"{home}/records", *flags]
    words += ["--output", f"{tmp_path}/out.parquet"]
    command = [sys.executable, "-m", "trainer.predict", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "fold 0" in process.stdout.readline()
        process.kill()
    assert not (tmp_path / "out.parquet").exists()
    assert subprocess.run([*command], capture_output=True).returncode == 0
    assert read_predictions(f"{tmp_path}/out.parquet").frame.equals(whole.frame)
