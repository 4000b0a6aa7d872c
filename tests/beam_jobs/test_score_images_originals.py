"""Real dermoscopy with two bad files among it: scored as the run predicted its records."""

import shutil

import numpy as np
import pandas as pd
import pytest

from beam_jobs.make_records import main as make_records
from beam_jobs.score_images import main
from pipeline.predictions import read_predictions
from trainer.export import main as export
from trainer.task import main as train


@pytest.fixture(scope="module")
def trained(real_data, tmp_path_factory):
    """A folder with the 133 originals, two bad files more, and a run of two folds, exported."""
    folder = tmp_path_factory.mktemp("uda1")
    shutil.copytree(real_data / "uda1" / "jpeg", folder / "jpeg")
    shutil.copy(real_data / "uda1" / "train.csv", folder)
    flags = ["--csv", f"{folder}/train.csv", "--images", f"{folder}/jpeg", "--sizes", "64"]
    flags += ["--id", "image_name", "--label", "target", "--folds", "2", "--numeric", "age_approx"]
    flags += ["--categorical", "sex,anatom_site_general_challenge", "--output", f"{folder}/out"]
    assert make_records(flags) == 0
    command = ["--records", f"{folder}/out/64", "--run", f"{folder}/run"]
    for setting in ("model.backbone=small-cnn", "model.fusion=concat", "train.epochs=1"):
        command += ["--set", setting]
    assert train(command) == 0
    assert export(["--run", f"{folder}/run"]) == 0
    table = pd.read_csv(folder / "train.csv", dtype=str)
    first = folder / "jpeg" / f"{table['image_name'][0]}.jpg"
    (folder / "jpeg" / "cut.jpg").write_bytes(first.read_bytes()[:3000])
    (folder / "jpeg" / "page.jpg").write_text("<html>not found</html>")
    bad = pd.DataFrame({"image_name": ["cut", "page"]})
    pd.concat([table[:40], bad, table[40:]]).to_csv(folder / "more.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("fold", [0, 1])
def test_each_original_has_its_records_logits_and_the_bad_ones_are_told(trained, tmp_path, fold):
    flags = ["--models", f"{trained}/run/export/fold{fold}", "--csv", f"{trained}/more.csv"]
    flags += ["--images", f"{trained}/jpeg", "--output", f"{tmp_path}/scores.parquet"]
    assert main([*flags, "--max_failures", "0.02"]) == 0
    failed = pd.read_csv(tmp_path / "scores.failed.csv")
    assert dict(zip(failed["id"], failed["reason"], strict=True)) == {
        "cut": "truncated",
        "page": "not_an_image",
    }
    frame = read_predictions(f"{tmp_path}/scores.parquet").frame.set_index("id")
    wanted = pd.read_csv(trained / "train.csv")["image_name"]
    assert sorted(frame.index) == sorted(wanted)
    own = read_predictions(f"{trained}/run/fold{fold}").frame.set_index("id")
    assert np.ptp(own["logit_1"]) > 0.1  # else anything would do
    np.testing.assert_allclose(frame.loc[own.index, "logit_1"], own["logit_1"], atol=1e-5)
