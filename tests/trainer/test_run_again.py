"""`trainer.task` called again on a run: what is kept, what is trained again, what is refused."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from pipeline import storage
from pipeline.predictions import read_predictions
from pipeline.records.manifest import write_manifest
from records_factory import write_toy_records
from trainer.loop import Loop
from trainer.task import main

FLAGS = ("--set", "model.backbone=small-cnn", "--set", "train.epochs=1", "--set")
FLAGS = (*FLAGS, "train.batch_size=8")


def train(folder, *flags):
    return main(["--records", f"{folder}/records", "--run", f"{folder}/run", *FLAGS, *flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of folds 0 and 1 of three, the third left out."""
    folder = tmp_path_factory.mktemp("trained")
    write_toy_records(folder / "records", rows=24, parts=("fold0", "fold1", "fold2", "holdout"))
    assert train(folder, "--folds", "0,1") == 0
    return folder


@pytest.fixture
def again(trained, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(trained, tmp_path / "again")


def mend(folder, part):
    """Other bytes in a part's shards, under the same plan and rendering."""
    parts = ("fold0", "fold1", "fold2", "holdout")
    old = json.loads((folder / "records" / "manifest.json").read_text())
    mended = write_toy_records(folder / "mended", rows=24, parts=parts, seed=1)
    by_file = {shard["file"]: shard for shard in old["shards"]}
    for shard in mended.shards_of([part]):
        shutil.copy(folder / "mended" / shard.file, folder / "records" / shard.file)
        by_file[shard.file].update(dataclasses.asdict(shard))
    (folder / "records" / "manifest.json").write_text(json.dumps(old))


def test_folds_are_trained_again_on_shards_that_changed_and_it_is_said(again, capsys):
    before = read_predictions(f"{again}/run").frame
    mend(again, "fold2")  # both trained on it
    assert train(again, "--folds", "0,1") == 0
    printed = capsys.readouterr().out
    assert "fold 0: the records' shards have changed since it was trained" in printed
    assert "skipped" not in printed
    after = read_predictions(f"{again}/run").frame
    assert (after["logit_malignant"] != before["logit_malignant"]).any()
    assert train(again, "--folds", "0,1") == 0
    assert capsys.readouterr().out.count("is complete: skipped") == 2


def test_a_fold_that_another_process_trains_is_refused_and_left_alone(again, capsys):
    before = read_predictions(f"{again}/run").frame
    with storage.locked(f"{again}/run/fold1/training.lock"):
        assert train(again, "--folds", "0,1", "--fresh") == 2
        assert "fold1: no other process must train this fold" in capsys.readouterr().err
        pd.testing.assert_frame_equal(read_predictions(f"{again}/run").frame, before)
        assert train(again, "--folds", "0", "--fresh") == 0
    assert train(again, "--folds", "1", "--fresh") == 0


def test_a_shard_that_a_fold_does_not_read_leaves_it_complete(again, capsys):
    mend(again, "holdout")
    assert train(again, "--folds", "0,1") == 0
    assert capsys.readouterr().out.count("is complete: skipped") == 2


@pytest.mark.parametrize("change", [{"plan_digest": "other"}, {"render_digest": "other"}])
def test_other_records_in_the_same_run_are_refused_by_what_differs(again, capsys, change):
    manifest = write_toy_records(
        again / "records", rows=24, parts=("fold0", "fold1", "fold2", "holdout")
    )
    write_manifest(f"{again}/records", dataclasses.replace(manifest, **change))
    before = (again / "run" / "predictions.parquet").read_bytes()
    assert train(again, "--folds", "1") == 2
    error = capsys.readouterr().err
    assert next(iter(change)) in error
    assert "give another --run, or --fresh" in error
    assert (again / "run" / "predictions.parquet").read_bytes() == before
    assert train(again, "--folds", "1", "--fresh") == 0
    assert set(read_predictions(f"{again}/run").frame["fold"]) == {1}


def test_a_fresh_run_that_was_broken_off_is_not_taken_for_a_result(again, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Loop, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            train(again, "--folds", "0", "--fresh")
    assert not (again / "run" / "predictions.parquet").exists()
    assert not (again / "run" / "fold0" / "predictions.parquet").exists()
    capsys.readouterr()
    assert train(again, "--folds", "0,1") == 0
    printed = capsys.readouterr().out
    assert "fold 0  epoch 1/1" in printed
    assert "fold 1 is complete: skipped" in printed
    assert set(read_predictions(f"{again}/run").frame["fold"]) == {0, 1}
