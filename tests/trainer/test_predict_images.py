"""`trainer.predict --images`: new images are prepared as the records were, bad ones told of."""

import shutil

import numpy as np
import pandas as pd
import pytest

from beam_jobs.make_records import main as make_records
from dataset_factory import record_flags, write_dataset
from pipeline.predictions import read_predictions
from trainer.predict import main
from trainer.prediction import images as prediction_images
from trainer.task import main as train

RECIPE = """
[model]
backbone = "small-cnn"
[train]
epochs = 1
batch_size = 4
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data set, its records with a part held out, and a run of images and a fused one."""
    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder, rows=24, patients=12)
    flags = record_flags(folder, folder / "out", folds="2", holdout="0.3", fit="pad", quality="80")
    assert make_records([*flags, "--workers", "1"]) == 0
    (folder / "recipe.toml").write_text(RECIPE)
    for name, fusion in (("run", "none"), ("fused", "concat")):
        words = ["--records", f"{folder}/out/64", "--run", f"{folder}/{name}"]
        words += ["--config", f"{folder}/recipe.toml", "--set", f"model.fusion={fusion}"]
        assert train(words) == 0
    return folder


def words_of(home, output, run="run"):
    words = ["--run", f"{home}/{run}", "--records", f"{home}/out/64"]
    return [*words, "--output", str(output)]


@pytest.fixture
def jpegs(home, tmp_path):
    """The folder of images, to be spoilt."""
    shutil.copytree(home / "jpeg", tmp_path / "jpeg")
    return tmp_path / "jpeg"


def test_images_of_a_table_are_predicted_as_the_records_of_them_are(home, tmp_path):
    table = ["--images", f"{home}/jpeg", "--csv", f"{home}/train.csv"]
    assert main([*words_of(home, tmp_path / "held.parquet", "fused"), "--part", "holdout"]) == 0
    assert main([*words_of(home, tmp_path / "all.parquet", "fused"), *table]) == 0
    held = read_predictions(f"{tmp_path}/held.parquet").frame.set_index("id")
    every = read_predictions(f"{tmp_path}/all.parquet").frame.set_index("id")
    assert len(held) > 3
    assert len(every) == 24
    np.testing.assert_allclose(
        every.loc[held.index, "logit_1"], held["logit_1"].to_numpy(), atol=1e-5
    )
    assert held.loc[held.index, "group"].equals(every.loc[held.index, "group"])
    assert {*every["target"]} == {-1}
    assert {*every["part"]} == {"unlabelled"}
    assert not (tmp_path / "all.images").exists()
    assert not (tmp_path / "all.failed.csv").exists()


def test_a_folder_alone_is_predicted_by_file_name(home, tmp_path, capfd):
    (home / "jpeg" / "notes.txt").write_text("not an image")
    words = [*words_of(home, tmp_path / "all.parquet"), "--images", f"{home}/jpeg"]
    assert main([*words, "--submission", f"{tmp_path}/scores.csv", "--folds", "0"]) == 0
    assert "1 files are no images by their suffix" in capfd.readouterr().out
    table = read_predictions(f"{tmp_path}/all.parquet")
    assert sorted(table.frame["id"]) == sorted(path.stem for path in home.glob("jpeg/*.jpg"))
    submitted = pd.read_csv(tmp_path / "scores.csv")
    assert submitted.columns.tolist() == ["image_name", "target"]
    assert submitted["image_name"].tolist() == table.frame["id"].tolist()
    np.testing.assert_allclose(submitted["target"], table.probs[:, 0], rtol=1e-6)


def test_a_bad_image_goes_to_a_file_beside_the_output_and_the_others_are_predicted(
    home, jpegs, tmp_path, capfd
):
    first, second, *_ = sorted(jpegs.glob("*.jpg"))
    first.write_bytes(first.read_bytes()[:500])
    second.write_bytes(b"")
    words = [*words_of(home, tmp_path / "out.parquet"), "--images", str(jpegs), "--folds", "1"]
    assert main(words) == 3
    assert "2 of 24 images failed, more than --max_failures 0.001" in capfd.readouterr().err
    failed = pd.read_csv(tmp_path / "out.failed.csv")
    assert failed["id"].tolist() == [first.stem, second.stem]
    assert failed["reason"].tolist() == ["truncated", "empty"]
    ids = read_predictions(f"{tmp_path}/out.parquet").frame["id"].tolist()
    assert len(ids) == 22
    assert not {first.stem, second.stem} & {*ids}
    assert main([*words, "--max_failures", "0.5"]) == 0  # also what was mended since
    assert len(pd.read_csv(tmp_path / "out.failed.csv")) == 2


def test_an_image_that_was_mended_is_predicted_by_the_same_command(home, jpegs, tmp_path):
    [first, *_] = sorted(jpegs.glob("*.jpg"))
    whole = first.read_bytes()
    first.write_bytes(b"")
    words = [*words_of(home, tmp_path / "out.parquet"), "--images", str(jpegs), "--folds", "1"]
    assert main(words) == 3
    first.write_bytes(whole)
    assert main(words) == 0
    assert len(read_predictions(f"{tmp_path}/out.parquet").frame) == 24
    assert not (tmp_path / "out.failed.csv").exists()


def test_what_was_prepared_before_a_stop_is_not_prepared_again(home, jpegs, tmp_path, monkeypatch):
    words = [*words_of(home, tmp_path / "out.parquet"), "--images", str(jpegs), "--folds", "1"]
    monkeypatch.setattr(prediction_images, "DEFAULT_ROWS_PER_SHARD", 5)
    real, done = prediction_images.write_shard, []

    def stopping(work, sources, plan, shard, *others):
        if len(done) == 2:
            done.append("stopped")
            raise KeyboardInterrupt
        done.append(shard)
        return real(work, sources, plan, shard, *others)

    monkeypatch.setattr(prediction_images, "write_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        main(words)
    shards = sorted((tmp_path / "out.images/64").glob("*.tfrecord-*"))
    times = [path.stat().st_mtime_ns for path in shards]
    assert len(shards) == 2
    monkeypatch.setattr(prediction_images.storage, "remove_tree", lambda folder: None)
    assert main(words) == 0
    assert [path.stat().st_mtime_ns for path in shards] == times
    assert len(read_predictions(f"{tmp_path}/out.parquet").frame) == 24


def test_what_another_folder_left_is_not_taken_for_this_ones(home, jpegs, tmp_path, monkeypatch):
    whole = [*words_of(home, tmp_path / "whole.parquet"), "--images", str(jpegs), "--folds", "1"]
    assert main(whole) == 0
    (tmp_path / "other").mkdir()
    for first, second in zip(sorted(jpegs.iterdir()), sorted(jpegs.iterdir())[::-1], strict=True):
        shutil.copy(first, tmp_path / "other" / second.name)  # the same names, other images
    words = [*words_of(home, tmp_path / "out.parquet"), "--folds", "1", "--images"]
    monkeypatch.setattr(prediction_images, "commit_size", None)  # a stop after the last shard
    with pytest.raises(TypeError):
        main([*words, f"{tmp_path}/other"])
    monkeypatch.undo()
    assert main([*words, str(jpegs)]) == 0
    tables = [read_predictions(f"{tmp_path}/{name}.parquet").frame for name in ("whole", "out")]
    assert tables[0].equals(tables[1])


def test_what_cannot_be_prepared_is_refused(home, jpegs, tmp_path, capfd):
    def refused(*flags, run="run"):
        code = main([*words_of(home, tmp_path / "out.parquet", run), *flags])
        assert not (tmp_path / "out.parquet").exists()
        return code, capfd.readouterr().err

    code, error = refused("--images", f"{tmp_path}/none")
    assert (code, "--images must be a folder that is there" in error) == (2, True)
    code, error = refused("--images", str(jpegs), run="fused")
    assert code == 2
    assert "--csv must be given with --images, for the models read sex, site, age_approx" in error
    code, error = refused("--csv", f"{home}/train.csv")
    assert (code, "--csv must be given with --images" in error) == (2, True)
    code, error = refused("--images", str(jpegs), "--part", "holdout")
    assert (code, "--part must not be given with --images" in error) == (2, True)

    table = pd.read_csv(home / "train.csv", dtype=str)
    table.drop(columns="site").to_csv(tmp_path / "no_site.csv", index=False)
    flags = ("--images", str(jpegs), "--csv", f"{tmp_path}/no_site.csv")
    code, error = refused(*flags, run="fused")
    assert (code, "no column 'site' (named by metadata.categorical)" in error) == (1, True)
    pd.concat([table, table.tail(1)]).to_csv(tmp_path / "twice.csv", index=False)
    code, error = refused("--images", str(jpegs), "--csv", f"{tmp_path}/twice.csv")
    assert (code, "column 'image_name' must not repeat" in error) == (1, True)

    [first, *others] = sorted(jpegs.glob("*.jpg"))
    shutil.copy(first, first.with_suffix(".png"))
    code, error = refused("--images", str(jpegs))
    assert (code, "file names without their ending must not repeat" in error) == (1, True)
    first.with_suffix(".png").unlink()
    for path in (first, *others):
        path.write_bytes(b"")
    code, error = refused("--images", str(jpegs))
    assert (code, "images must be read to be predicted, got none of 24" in error) == (1, True)


def test_a_folder_of_the_users_is_never_taken_for_work(home, jpegs, tmp_path, capfd):
    """Beside `out.parquet` images are prepared in `out.images`, which is removed at the end."""
    before = sorted(jpegs.iterdir())
    jpegs.rename(tmp_path / "out.images")
    for images in (tmp_path / "out.images", home / "jpeg"):
        words = [*words_of(home, tmp_path / "out.parquet"), "--images", str(images)]
        assert main(words) == 2
        assert "--output must leave" in capfd.readouterr().err
    names = sorted(path.name for path in (tmp_path / "out.images").iterdir())
    assert names == [path.name for path in before]


def test_images_that_could_not_be_read_are_read_again_once_they_are_mended(home, jpegs, tmp_path):
    words = [*words_of(home, tmp_path / "out.parquet"), "--images", str(jpegs), "--folds", "0"]
    kept = {path: path.read_bytes() for path in jpegs.glob("*.jpg")}
    for path in kept:
        path.write_bytes(b"")
    assert main(words) == 1
    for path, data in kept.items():
        path.write_bytes(data)
    assert main(words) == 0
    assert len(read_predictions(f"{tmp_path}/out.parquet").frame) == 24
