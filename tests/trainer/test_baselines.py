"""`python -m trainer.baselines` from end to end on toy records."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beam_jobs.make_records import main as make_records
from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_rows
from pipeline.settings import load_toml
from pipeline.stream.records import open_records
from predictions_factory import BINARY, MULTILABEL, toy_predictions
from records_factory import write_toy_records
from trainer.baselines.__main__ import asked_baselines, build_parser, main
from trainer.baselines.features import read_pictures
from trainer.baselines.fold_run import Baseline, run_baseline
from trainer.baselines.table import found_at_one_half
from trainer.compare import main as compare_main
from trainer.config import DataConfig
from trainer.ensemble.__main__ import main as ensemble_main
from trainer.folds import fold_parts
from trainer.metrics import evaluate

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("logistic-histogram", "svm-histogram", "logistic-metadata", "svm-metadata")


def train(records, run, *flags):
    return main(["--records", str(records), "--run", str(run), "--draws", "50", *flags])


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """Toy records and four baselines of them; what was printed is in `table.txt`."""
    folder = tmp_path_factory.mktemp("binary")
    write_toy_records(folder / "records", rows=80, size_px=16)
    with pytest.MonkeyPatch.context() as patch, (folder / "table.txt").open("w") as table:
        patch.setattr(sys, "stdout", table)
        flags = ("--features", "histogram,metadata", "--class_weights", "none")
        assert train(folder / "records", folder / "runs", *flags) == 0
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_predicts_every_row_once_as_a_network_does(binary, name):
    rows = read_rows(str(binary / "records"))
    frame = read_predictions(str(binary / "runs" / name)).frame
    for column in ("row", "id", "group", "part", "fold", "target"):
        assert frame[column].tolist() == rows[column].tolist(), column
    for fold in range(4):
        alone = read_predictions(str(binary / "runs" / name / f"fold{fold}")).frame
        assert set(alone["fold"]) == {fold}


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_those_of_the_logits(binary, name):
    predictions = read_predictions(str(binary / "runs" / name))
    expected = 1 / (1 + np.exp(-predictions.logits))
    np.testing.assert_allclose(predictions.probs, expected, rtol=1e-5)


def test_colours_tell_the_toy_classes_and_metadata_do_not(binary):
    head, *lines = (binary / "table.txt").read_text().splitlines()[4:]
    aucs = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert tuple(aucs) == NAMES
    assert min(aucs["logistic-histogram"], aucs["svm-histogram"]) > 0.95
    assert max(aucs["logistic-metadata"], aucs["svm-metadata"]) < 0.75
    assert "training AUC" in head
    assert all("95 %" in line and "by group" in line for line in lines)


def test_the_recipe_lies_beside_the_predictions(binary):
    config = load_toml(str(binary / "runs" / "svm-histogram" / "config.toml"))
    assert config["model"] == "svm"
    assert config["features"] == ["histogram"]
    assert config["class_weight"] == "none"


def test_ensemble_and_compare_take_baselines(binary, capsys):
    members = [str(binary / "runs" / name) for name in NAMES[:3:2]]
    assert ensemble_main([*members, "--output", str(binary / "mean.parquet")]) == 0
    assert compare_main([*members, "--draws", "50"]) == 0
    assert "logistic-histogram minus" in capsys.readouterr().out


def test_validation_targets_change_nothing_that_is_predicted(tmp_path):
    manifest = write_toy_records(tmp_path / "records", rows=60, size_px=16, kind="multiclass")
    records, rows = open_records(str(tmp_path / "records")), read_rows(str(tmp_path / "records"))
    baseline = Baseline(model="svm", features=("histogram",))
    pictures = read_pictures(records, rows, manifest.part_names, baseline.features, 8)
    first_fold = fold_parts(manifest, DataConfig())[:1]
    turned = rows.assign(target=rows["target"].where(rows["fold"] != 0, 2 - rows["target"]))
    one, other = (
        run_baseline(str(tmp_path / "run"), baseline, manifest, table, pictures, *(first_fold,) * 2)
        for table in (rows, turned)
    )
    assert (one.predictions.targets != other.predictions.targets).any()
    np.testing.assert_array_equal(one.predictions.logits, other.predictions.logits)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_several_classes_are_each_told_from_the_rest(tmp_path, kind):
    write_toy_records(tmp_path / "records", rows=80, size_px=16, kind=kind, unlabelled=["fold3"])
    flags = ("--models", "logistic", "--features", "histogram", "--class_weights", "none")
    assert train(tmp_path / "records", tmp_path / "runs", *flags) == 0
    predictions = read_predictions(str(tmp_path / "runs" / "logistic-histogram"))
    is_known = np.atleast_2d(predictions.targets.T >= 0).T.any(axis=1)
    assert (~is_known).sum() == 20
    if kind == "multiclass":
        np.testing.assert_allclose(predictions.probs.sum(axis=1), 1, atol=1e-5)
        shares = np.exp(predictions.logits)
        np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), predictions.probs, 1e-5)
        right = predictions.probs.argmax(axis=1) == predictions.targets
        assert right[is_known].mean() > 0.9
    else:
        right = (predictions.probs > 0.5) == (predictions.targets > 0.5)
        assert right[is_known].mean() > 0.9


def test_given_parts_have_one_fold_and_no_number(tmp_path):
    write_toy_records(tmp_path / "records", rows=40, size_px=16, parts=("train", "val"))
    flags = ("--train", "train", "--validation", "val", "--models", "logistic")
    flags += ("--features", "pixels", "--pixels_px", "4", "--class_weights", "balanced")
    assert train(tmp_path / "records", tmp_path / "runs", *flags) == 0
    frame = read_predictions(str(tmp_path / "runs" / "logistic-pixels-balanced" / "fold0")).frame
    assert set(frame["part"]) == {"val"}
    assert set(frame["fold"]) == {-1}


ONE = ("--models", "logistic", "--features", "metadata", "--class_weights", "none")


def test_folds_of_an_earlier_call_are_kept_beside_those_of_a_later(tmp_path, capsys):
    write_toy_records(tmp_path / "records", rows=40, size_px=16)
    assert train(tmp_path / "records", tmp_path / "runs", *ONE, "--folds", "0,1") == 0
    first = read_predictions(str(tmp_path / "runs" / "logistic-metadata")).frame
    assert train(tmp_path / "records", tmp_path / "runs", *ONE, "--folds", "2") == 0
    predictions = read_predictions(str(tmp_path / "runs" / "logistic-metadata"))
    assert predictions.run["folds"] == [0, 1, 2]
    kept = predictions.frame[predictions.frame["fold"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first)
    assert train(tmp_path / "records", tmp_path / "whole", *ONE) == 0
    whole = read_predictions(str(tmp_path / "whole" / "logistic-metadata")).frame
    rest = whole[whole["fold"] < 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(predictions.frame, rest)


def test_folds_of_changed_records_are_not_gathered_with_new_ones(tmp_path):
    write_toy_records(tmp_path / "records", rows=40, size_px=16)
    assert train(tmp_path / "records", tmp_path / "runs", *ONE, "--folds", "0,1") == 0
    write_toy_records(tmp_path / "records", rows=40, size_px=16, seed=1)  # other shards, same plan
    assert train(tmp_path / "records", tmp_path / "runs", *ONE, "--folds", "2") == 0
    frame = read_predictions(str(tmp_path / "runs" / "logistic-metadata")).frame
    assert set(frame["fold"]) == {2}


def test_a_folder_of_other_settings_or_of_a_network_is_refused(tmp_path, capfd):
    write_toy_records(tmp_path / "records", rows=40, size_px=16)
    runs = tmp_path / "runs"
    assert train(tmp_path / "records", runs, *ONE, "--folds", "0") == 0
    before = (runs / "logistic-metadata" / "predictions.parquet").read_bytes()
    assert train(tmp_path / "records", runs, *ONE, "--folds", "1", "--seed", "3") == 2
    error = capfd.readouterr().err
    assert "must be what the run was started with, got other seed (there 0, asked 3)" in error
    assert (runs / "logistic-metadata" / "predictions.parquet").read_bytes() == before
    assert train(tmp_path / "records", runs, *ONE, "--folds", "1", "--seed", "3", "--fresh") == 0
    assert set(read_predictions(str(runs / "logistic-metadata")).frame["fold"]) == {1}
    assert train(tmp_path / "records", runs / "logistic-metadata", *ONE) == 2
    assert "--run must be a folder for runs of baselines, got" in capfd.readouterr().err


def test_without_flags_every_model_meets_every_feature_of_the_records(binary):
    manifest = open_records(str(binary / "records")).manifest
    flags = build_parser().parse(["--records", "out/64", "--run", "runs"])
    asked = [baseline.name for baseline in asked_baselines(flags, manifest)]
    assert len(set(asked)) == len(asked) == 24
    assert asked[:4] == [
        "logistic-pixels", "logistic-pixels-balanced", "svm-pixels", "svm-pixels-balanced"
    ]  # fmt: skip
    assert asked[-1] == "svm-pixels+histogram+metadata-balanced"
    features = tuple(f for f in manifest.features if f.role not in ("category", "number"))
    bare = dataclasses.replace(manifest, features=features)
    assert {b.features for b in asked_baselines(flags, bare)} == {("pixels",), ("histogram",)}


def test_positives_found_at_one_half_are_counted():
    whole = toy_predictions(BINARY, rows=6)
    scores = pd.Series([0.9, 0.5, 0.9, 0.4, 0.9, 0.1])
    whole.frame["prob_malignant"] = scores.astype(np.float32)
    assert found_at_one_half(whole) == "1 of 3"  # odd rows are malignant
    assert found_at_one_half(toy_predictions(MULTILABEL, rows=6)).endswith(" of 5")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--features", "pixel"), "--features: unknown name 'pixel'; did you mean 'pixels'?"),
        (("--models", "lgistic"), "--models: unknown name 'lgistic'; did you mean 'logistic'?"),
        (("--class_weights", "balance"), "did you mean 'balanced'?"),
        (("--pixels_px", "64"), "--pixels_px must be 16 or less"),
        (("--pixels_px", "0"), "--pixels_px must be 1 or more, got 0"),
        (("--draws", "0"), "--draws must be 1 or more, got 0"),
        (("--folds", "9"), "--folds must be all, or among 0, 1, 2, 3"),
        (("--merge_folds", "9"), "data.folds must be 4 or less"),
        (("--train", "fold0"), "train and validation must be given together"),
    ],
)
def test_a_flag_at_fault_is_told_before_anything_is_written(binary, capfd, flags, message):
    assert main(["--records", str(binary / "records"), "--run", str(binary / "no"), *flags]) == 2
    assert message in capfd.readouterr().err
    assert not (binary / "no").exists()


def test_records_without_a_label_are_refused(tmp_path, capfd):
    write_toy_records(tmp_path / "records", rows=8, kind="none")
    assert train(tmp_path / "records", tmp_path / "runs") == 2
    assert "the records must have a label, got none" in capfd.readouterr().err


def test_no_tensorflow_is_started(binary):
    code = (
        "import sys\n"
        "from trainer.baselines.__main__ import main\n"
        "import trainer.compare\n"
        f"assert main(['--records', {str(binary / 'records')!r}, '--run', "
        f"{str(binary / 'again')!r}, '--models', 'logistic', '--features', 'pixels', "
        "'--class_weights', 'none', '--draws', '5']) == 0\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_on_real_images_colours_tell_more_than_small_pixels_and_metadata_add_to_both(
    real_data, tmp_path
):
    """HAM10000 images, one a lesion: 353 melanomas of 2,471, seven diagnoses."""
    ham = real_data / "ham224"
    flags = ["--spec", str(ROOT / "datasets" / "ham10000.toml"), "--csv", f"{ham}/train.csv"]
    flags += ["--images", f"{ham}/jpeg", "--sizes", "64", "--output", str(tmp_path)]
    assert make_records(flags) == 0
    sets = ("pixels", "pixels+metadata", "histogram", "histogram+metadata")
    flags = ["--models", "logistic", "--class_weights", "none", "--features", ",".join(sets)]
    assert train(tmp_path / "64", tmp_path / "runs", *flags) == 0
    runs = [read_predictions(str(tmp_path / "runs" / f"logistic-{name}")) for name in sets]
    aucs = [evaluate(predictions)["auc"] for predictions in runs]
    np.testing.assert_allclose(aucs, [0.80, 0.83, 0.886, 0.895], atol=0.01)
