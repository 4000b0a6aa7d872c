"""`score_images` as a user types it: the run's own scores, failures, ids, what is refused."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from apache_beam.internal import pickler
from PIL import Image

from beam_jobs.make_records import main as make_records
from beam_jobs.score_images import main
from beam_jobs.score_job import ScoreImages
from beam_jobs.score_shards import PrepareShard, SavedModels, ScoreJob, WriteScores
from dataflow_stand_in import as_on_dataflow, graph_bytes
from dataset_factory import record_flags
from pipeline.combine import Ensemble, ensemble_to_json
from pipeline.predictions import read_predictions
from pipeline.scoring.exported import all_models, find_members


@pytest.fixture(scope="module")
def made(exported_run):
    """A dataset of 24 images of 70-160 px in 4 folds, a run of two of its folds, and its export."""
    return exported_run


def flags_for(folder, output, *more, **over):
    flags = {
        "models": f"{folder}/run", "csv": f"{folder}/train.csv", "images": f"{folder}/jpeg",
        "output": str(output), **over,
    }  # fmt: skip
    return [word for name, value in flags.items() if value for word in (f"--{name}", value)] + [
        *more
    ]


def scored(folder, output, *more, **over):
    """The predictions file that a command writes, by id."""
    assert main(flags_for(folder, output, *more, **over)) == 0
    return read_predictions(str(output)).frame.set_index("id")


def ids_of(table):
    with table.open() as file:
        return sorted(line["image_name"] for line in csv.DictReader(file))


def test_originals_get_what_the_run_predicted_of_their_records(made, tmp_path):
    for fold in (0, 1):
        own = read_predictions(f"{made}/run/fold{fold}").frame.set_index("id")
        frame = scored(made, tmp_path / "out.parquet", models=f"{made}/run/export/fold{fold}")
        assert sorted(frame.index) == ids_of(made / "train.csv")
        assert np.ptp(own["logit_1"]) > 1e-3  # else anything would do
        np.testing.assert_allclose(frame.loc[own.index, "logit_1"], own["logit_1"], atol=1e-5)
        np.testing.assert_allclose(frame.loc[own.index, "prob_1"], own["prob_1"], atol=1e-5)


def test_the_folds_of_a_run_are_averaged_and_so_are_several_runs(made, tmp_path):
    one, two = (
        scored(made, tmp_path / f"{k}.parquet", models=f"{made}/run/export/fold{k}")["prob_1"]
        for k in (0, 1)
    )
    run = scored(made, tmp_path / "run.parquet")
    np.testing.assert_allclose(run["prob_1"], (one + two) / 2, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-run["logit_1"])), run["prob_1"], atol=1e-6)
    flags = flags_for(made, tmp_path / "both.parquet")
    flags.insert(2, f"{made}/run/export/fold0")  # a second member beside the run
    assert main(flags) == 0
    both = read_predictions(str(tmp_path / "both.parquet")).frame["prob_1"].to_numpy()
    np.testing.assert_allclose(both, ((one + two) / 2 + one) / 2, atol=1e-6)


def test_an_ensemble_is_applied_to_the_runs_that_it_names(made, tmp_path):
    members = (f"{made}/run/export/fold0", f"{made}/run/export/fold1")
    ensemble = Ensemble(
        method="weighted", kind="binary", classes=("1",), members=members, scale="prob",
        weights=((3.0,), (1.0,)),
    )  # fmt: skip
    file = tmp_path / "ensemble.json"
    file.write_text(ensemble_to_json(ensemble, {}))
    got = scored(made, tmp_path / "e.parquet", models=None, ensemble=str(file))["prob_1"]
    one, two = (scored(made, tmp_path / "m.parquet", models=of)["prob_1"] for of in members)
    np.testing.assert_allclose(got, (3 * one + two) / 4, atol=1e-6)


def test_a_csv_has_each_id_once_and_the_score(made, tmp_path):
    assert main(flags_for(made, tmp_path / "s.csv")) == 0
    frame = scored(made, tmp_path / "s.parquet")
    table = pd.read_csv(tmp_path / "s.csv", dtype={"id": str})
    assert table.columns.tolist() == ["id", "score", "prob_1", "logit_1"]
    assert table["id"].tolist() == ids_of(made / "train.csv")
    np.testing.assert_allclose(table["score"], frame["prob_1"], rtol=1e-6)
    assert not (tmp_path / "s.csv.shards").exists()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_bytes_do_not_depend_on_the_cut_or_the_workers(made, tmp_path, workers):
    assert main(flags_for(made, tmp_path / "one.csv")) == 0
    cut = flags_for(made, tmp_path / "cut.csv", rows_per_shard="5", workers=workers)
    assert main(cut) == 0
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_bad_images_go_to_a_failed_file_as_of_make_records(made, tmp_path, capsys):
    shutil.copytree(made / "jpeg", tmp_path / "jpeg")
    shutil.copy(made / "train.csv", tmp_path)
    first, second, *_ = ids_of(made / "train.csv")
    cut = tmp_path / "jpeg" / f"{first}.jpg"
    cut.write_bytes(cut.read_bytes()[:900])
    (tmp_path / "jpeg" / f"{second}.jpg").write_text("<html>not found</html>")
    over = {"csv": f"{tmp_path}/train.csv", "images": f"{tmp_path}/jpeg"}
    assert main(flags_for(made, tmp_path / "s.csv", **over)) == 3
    assert "2 of 24 rows failed, more than --max_failures 0.001" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "s.csv", dtype={"id": str})
    assert table["id"].tolist() == ids_of(made / "train.csv")[2:]
    assert main(flags_for(made, tmp_path / "s.csv", **over, max_failures="0.1")) == 0
    assert "2 rows failed (1 not_an_image, 1 truncated)" in capsys.readouterr().out
    failed = (tmp_path / "s.failed.csv").read_text()
    flags = record_flags(tmp_path, tmp_path / "out", sizes="48", max_failures="0.5")
    assert make_records(flags) == 0
    assert failed == (tmp_path / "out" / "failed.csv").read_text()


def test_where_every_image_is_bad_the_table_is_empty(made, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("no")
    over = {"csv": None, "images": f"{tmp_path}/bad"}
    assert main(flags_for(made, tmp_path / "s.csv", **over)) == 3
    assert (tmp_path / "s.csv").read_text() == "id,score,prob_1,logit_1\n"


def test_a_folder_is_scored_whole_with_its_metadata_missing(made, tmp_path, capsys):
    frame = scored(made, tmp_path / "f.parquet", csv=None)
    assert "no column 'sex', 'site', 'age_approx'" in capsys.readouterr().out
    (tmp_path / "bare.csv").write_text("\n".join(["image_name", *ids_of(made / "train.csv")]))
    bare = scored(made, tmp_path / "b.parquet", csv=f"{tmp_path}/bare.csv")
    np.testing.assert_array_equal(frame["logit_1"], bare["logit_1"])
    told = scored(made, tmp_path / "t.parquet")
    assert (frame["logit_1"] != told["logit_1"]).any()  # the metadata does count


def test_sources_of_other_kinds_are_scored_like_their_pixels(made, tmp_path):
    """PNG, TIFF, an EXIF turn and CMYK; a JPEG of TensorFlow's own would be none of these."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(60, 200, (6, 8, 3), np.uint8), (128, 96))
    images = tmp_path / "images"
    images.mkdir()
    picture = Image.fromarray(pixels)
    picture.save(images / "a.png")
    picture.save(images / "b.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.transpose(Image.Transpose.ROTATE_90).save(
        images / "c.jpg", quality=100, subsampling=0, exif=exif
    )
    picture.convert("CMYK").save(images / "d.jpg", quality=100)
    frame = scored(made, tmp_path / "s.parquet", csv=None, images=str(images))
    assert frame.index.tolist() == ["a", "b", "c", "d"]
    logits = frame["logit_1"].to_numpy()
    assert logits[0] == logits[1]
    np.testing.assert_allclose(logits[1:], logits[0], atol=0.05)


def test_pictures_are_rendered_as_the_flags_say_where_they_do(made, tmp_path, capsys):
    cropped = scored(made, tmp_path / "c.parquet")["logit_1"]
    padded = scored(made, tmp_path / "p.parquet", fit="pad")["logit_1"]
    assert (cropped != padded).any()
    assert main(flags_for(made, tmp_path / "m.csv", max_pixels="9000")) == 3
    assert "too_large): " in capsys.readouterr().out


def test_a_parquet_table_gives_what_its_csv_does(made, tmp_path):
    table = pd.read_csv(made / "train.csv", dtype={"image_name": str})
    table.to_parquet(tmp_path / "t.parquet")
    assert main(flags_for(made, tmp_path / "p.csv", csv=f"{tmp_path}/t.parquet")) == 0
    assert main(flags_for(made, tmp_path / "c.csv")) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()


def test_a_value_that_no_model_met_is_told_of(made, tmp_path, capsys):
    text = (made / "train.csv").read_text().replace(",female,", ",other,")
    (tmp_path / "t.csv").write_text(text)
    scored(made, tmp_path / "s.parquet", csv=f"{tmp_path}/t.csv")
    assert "12 rows hold a 'sex' that no model met in training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("over", "code", "message"),
    [
        ({"models": None}, 2, "--models or --ensemble must be given"),
        ({"models": "none"}, 2, "--models must be exported models (model.json), or a run"),
        ({"output": "s.txt"}, 2, "--output must end in .csv or .parquet, got 's.txt'"),
        ({"images": "none"}, 2, "--images must be a folder that is there, got 'none'"),
        ({"csv": "none.csv"}, 2, "none.csv: no such file"),
        ({"id": "image"}, 1, "no column 'image' (named by table.id); did you mean 'image_name'?"),
        ({"csv": None, "id": "x"}, 2, "--id must be given with --csv"),
        ({"fit": "squash"}, 2, "fit must be one of"),
        ({"batch_size": "0"}, 2, "--batch_size must be 1 or more, got 0"),
        ({"max_failures": "2"}, 2, "--max_failures must be in [0, 1], got 2"),
        ({"ensemble": "none.json"}, 2, "none.json: no such file"),
    ],
)
def test_what_cannot_be_scored_is_refused(made, tmp_path, capsys, over, code, message):
    assert main(flags_for(made, **{"output": f"{tmp_path}/s.csv", **over})) == code
    assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_a_model_that_is_given_twice_is_refused(tmp_path, capsys):
    words = ["--images", str(tmp_path), "--output", f"{tmp_path}/s.csv", "--models"]
    assert main([*words, "runs/a", "runs/b", "runs/b/../a/"]) == 2
    error = capsys.readouterr().err
    assert "--models must each be given once, got 'runs/b/../a/' again; leave one out" in error


def test_a_misspelt_flag_is_refused_naming_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--modles", "run"])
    assert "unknown flag --modles; did you mean '--models'?" in capsys.readouterr().err


def test_an_export_that_does_not_tell_of_its_records_is_refused(made, tmp_path, capsys):
    shutil.copytree(made / "run/export/fold0", tmp_path / "old")
    about = json.loads((tmp_path / "old/model.json").read_text())
    (tmp_path / "old/model.json").write_text(json.dumps({**about, "records": None}))
    assert main(flags_for(made, tmp_path / "s.csv", models=f"{tmp_path}/old")) == 1
    assert "records must say how images were rendered" in capsys.readouterr().err
    (tmp_path / "old/saved_model.pb").unlink()
    (tmp_path / "old/model.json").write_text(json.dumps(about))
    assert main(flags_for(made, tmp_path / "s.csv", models=f"{tmp_path}/old")) == 1
    assert "an exported model must have saved_model.pb, got none" in capsys.readouterr().err


def test_an_ensemble_of_another_label_is_refused(made, tmp_path, capsys):
    ensemble = Ensemble(
        method="mean", kind="multilabel", classes=("a", "b"), members=(f"{made}/run",),
        scale="prob", weights=((1.0, 1.0),),
    )  # fmt: skip
    (tmp_path / "e.json").write_text(ensemble_to_json(ensemble, {}))
    flags = flags_for(made, tmp_path / "s.csv", models=None, ensemble=f"{tmp_path}/e.json")
    assert main(flags) == 1
    assert "kind and classes must be the models', binary of 1, got multi" in capsys.readouterr().err


def job_of(made, work):
    members = find_members([f"{made}/run"], None)
    return ScoreJob(
        work=str(work), digest="", images=f"{made}/jpeg", members=members, ensemble=None,
        renderings=(all_models(members)[0].rendering,), batch_size=4, threads=1,
    )  # fmt: skip


def test_the_job_graph_is_as_large_for_a_million_rows_as_for_a_thousand(made, tmp_path):
    small, large = (
        graph_bytes(
            ScoreImages(
                work=job_of(made, tmp_path), rows=rows, rows_per_shard=256, environment={},
                output=f"{tmp_path}/s.csv", max_failures=0.0,
            )
        )
        for rows in (1_000, 1_000_000)
    )  # fmt: skip
    assert abs(large - small) <= 0.05 * small, (small, large)
    assert large < 200_000


def test_scored_as_on_dataflow_the_table_is_the_same(made, tmp_path, monkeypatch, capsys):
    assert main(flags_for(made, tmp_path / "here.csv")) == 0
    here = capsys.readouterr().out
    as_on_dataflow(monkeypatch, tmp_path / "scratch")
    assert main(flags_for(made, tmp_path / "afar.csv")) == 0
    assert capsys.readouterr().out == here.replace("here", "afar")
    assert (tmp_path / "afar.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["afar.csv", "afar.failed.csv", "here.csv", "here.failed.csv"]


def test_what_is_pickled_starts_in_a_clean_process_and_tensorflow_in_load_model(made, tmp_path):
    job = job_of(made, tmp_path)
    handler = SavedModels(job, {"TF_CPP_MIN_LOG_LEVEL": "3"})
    (tmp_path / "pickled").write_bytes(
        pickler.dumps([PrepareShard(job), handler, WriteScores(job)])
    )
    program = f"""
import sys
from apache_beam.internal import pickler
import beam_jobs.score_images, beam_jobs.score_job
prepare, handler, write = pickler.loads(open({str(tmp_path / "pickled")!r}, "rb").read())
prepare.setup()
assert "tensorflow" not in sys.modules
handler.set_environment_vars()
handler.load_model()
assert "tensorflow" in sys.modules and not any(name.startswith("trainer") for name in sys.modules)
prepare.teardown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
