"""A user's way wholly on gs://: records, two steps a fold, killed and continued, views, ensemble,
report, export.
"""

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from beam_jobs.make_records import main as make_records
from beam_jobs.verify_records import main as verify_records
from pipeline import storage
from pipeline.phantom.__main__ import main as draw_phantoms
from pipeline.predictions import read_predictions
from records_factory import write_toy_records
from trainer.ensemble.__main__ import main as ensemble
from trainer.report.__main__ import main as report

pytestmark = pytest.mark.cloud

ROOT = Path(__file__).parents[2]
WAIT_S = 900  # a busy machine takes its time
RECIPE = """
[model]
backbone = "small-cnn"
fusion = "concat"
fusion_units = [4]
dropout = 0.5
[train]
epochs = 2
batch_size = 8
"""


def put(folder, target):
    for name in storage.walk(str(folder)):
        storage.write_bytes(f"{target}/{name}", storage.read_bytes(f"{folder}/{name}"))


def start(gateway, *words):
    return subprocess.Popen(
        [sys.executable, *words],
        env=gateway.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process, code=0):
    try:
        text, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == code, text
    return text


def make_phantom_records(bucket, folder):
    """From drawn images and their table, both on the bucket, to records there; the table."""
    drawing = ["--patients", "8", "--images_per_patient", "3", "--sizes", "80x64,64x64"]
    drawing += ["--positive_share", "0.3", "--output", str(folder)]
    assert draw_phantoms(drawing) == 0
    put(folder, bucket)
    storage.write_bytes(f"{bucket}/spec.toml", (ROOT / "datasets/phantom.toml").read_bytes())
    csv = f"{bucket}/train.csv"
    making = ["--spec", f"{bucket}/spec.toml", "--csv", csv, "--images", f"{bucket}/jpeg"]
    making += ["--folds", "2", "--sizes", "32", "--rows_per_shard", "6"]
    assert make_records([*making, "--output", f"{bucket}/out"]) == 0
    assert verify_records([f"{bucket}/out/32", "--csv", csv]) == 0
    return read_csv(csv).set_index("image_name")


def read_csv(path):
    return pd.read_csv(io.BytesIO(storage.read_bytes(path)))


def kill_in_the_second_step(gateway, run, words):
    """Begins to train and is gone between the first fold's two steps."""
    # The second step's checkpoint takes its time, so that the kill meets it.
    gateway.breaks({"kind": "delay", "match": "fold0.*step-00000002", "seconds": 3})
    process = start(gateway, "-m", "trainer.task", *words, "--run", run)
    give_up = time.monotonic() + WAIT_S
    while not storage.exists(f"{run}/fold0/checkpoints/step-00000001/state.json"):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < give_up
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    gateway.breaks()
    assert not storage.exists(f"{run}/fold0/predictions.parquet")
    assert storage.exists(f"{run}/fold0/training.lock")  # nobody let it go


def test_records_made_there_train_a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not(
    gateway, bucket, tmp_path
):
    table, run = make_phantom_records(bucket, tmp_path), f"{bucket}/runs/killed"
    storage.write_text(f"{bucket}/recipe.toml", RECIPE)
    words = ["--records", f"{bucket}/out/32", "--config", f"{bucket}/recipe.toml"]
    kill_in_the_second_step(gateway, run, words)

    program = (
        "import sys; from trainer.task import main; from trainer.export import main as export\n"
        "from trainer.predict import main as predict\n"
        f"words = {words!r}\n"
        f"code = main([*words, '--run', '{run}'])\n"
        f"code = code or main([*words, '--run', '{bucket}/runs/whole', '--folds', '0'])\n"
        f"of_views = ['--views', 'flips', '--submission', '{bucket}/views.csv']\n"
        f"code = code or predict(['--run', '{run}', *words[:2], *of_views])\n"
        f"sys.exit(code or export(['--run', '{run}', '--folds', '0']))"
    )
    text = output_of(start(gateway, "-c", program))
    assert "fold 0: goes on after step 1" in text
    fold, whole = (read_predictions(f"{path}/fold0") for path in (run, f"{bucket}/runs/whole"))
    assert fold.frame.equals(whole.frame)
    there = read_predictions(run)
    assert sorted(there.frame["id"]) == sorted(table.index)  # each once
    views = read_predictions(f"{run}/predictions-oof-flips.parquet")
    assert views.frame["row"].equals(there.frame["row"])
    assert (views.probs != there.probs).any()
    scores = read_csv(f"{bucket}/views.csv")
    assert scores["image_name"].tolist() == views.frame["id"].tolist()
    np.testing.assert_allclose(scores["target"], views.probs[:, 0], rtol=1e-6)
    names = set(storage.walk(run))
    assert {
        "export/fold0/saved_model.pb",
        "export/fold0/model.json",
        "fold1/metrics.jsonl",
    } <= names
    assert any(name.startswith("fold0/tensorboard/events") for name in names)
    assert not any(name.endswith(".lock") for name in names)

    members = [run, f"{run}/predictions-oof-flips.parquet"]
    assert ensemble([*members, "--method", "mean", "--output", f"{bucket}/both.parquet"]) == 0
    both = read_predictions(f"{bucket}/both.parquet")
    assert both.frame["id"].equals(there.frame["id"])
    np.testing.assert_allclose(both.probs, (there.probs + views.probs) / 2, atol=1e-6)
    flags = [*words[:2], "--model_card", f"{bucket}/card.md", "--draws", "50"]
    page = f"{bucket}/report/report.html"
    assert report([f"{bucket}/both.parquet", run, "--output", page, *flags]) == 0
    assert storage.list_names(f"{bucket}/report") == ["metrics.json", "report.html"]
    figures = json.loads(storage.read_text(f"{bucket}/report/metrics.json"))["figures"]
    auc = roc_auc_score(table.loc[both.frame["id"], "target"], both.probs[:, 0])
    assert figures["AUC"]["figure"] == pytest.approx(auc)


def test_a_fold_that_another_process_trains_is_refused(gateway, bucket, tmp_path):
    write_toy_records(tmp_path, rows=24, parts=("fold0", "fold1"))
    put(tmp_path, f"{bucket}/out/32")
    words = ["--records", f"{bucket}/out/32", "--run", f"{bucket}/run"]
    words += ["--set", "train.batch_size=8"]
    with storage.locked(f"{bucket}/run/fold0/training.lock"):
        text = output_of(start(gateway, "-m", "trainer.task", *words), code=2)
    assert "no other process must train this fold, got one that does" in text


FAULTS = [
    {"kind": "status", "status": 503, "every": 12, "burst": 3},
    {"kind": "status", "status": 429, "every": 12, "burst": 3},
    {"kind": "delay", "every": 10, "seconds": 2},
    {"kind": "reset_download", "match": "^GET /bucket/", "every": 2},
    {"kind": "truncate", "match": "^GET /bucket/", "every": 2},
    {"kind": "reset_upload", "match": "^PUT .*upload_id", "every": 3},
    {"kind": "lose_answer", "match": "^PUT .*upload_id", "every": 3},
    {"kind": "status", "status": 410, "match": "^PUT .*upload_id", "every": 3},
    {"kind": "status", "status": 404, "match": "^PUT .*upload_id", "every": 3},
]


def test_tensorflow_reads_and_writes_the_same_whatever_breaks(gateway, bucket, tmp_path):
    manifest = write_toy_records(tmp_path, rows=200, parts=("fold0",), shards_per_part=1)
    shard = (tmp_path / manifest.shards[0].file).read_bytes()
    faults = [{"kind": "delay", "times": 0}, *FAULTS, {"kind": "status", "status": 403}]
    names = [f"fault{number:02d}" for number in range(len(faults))]
    for name in names:
        storage.write_bytes(f"{bucket}/{name}/records.tfrecord", shard)
    # Each breaks the requests of its own folder.
    gateway.breaks(
        *(
            {**fault, "match": f"(?=.*%2F{name}){fault.get('match', '')}"}
            for name, fault in zip(names, faults, strict=True)
        )
    )
    program = str(ROOT / "tests/cloud/tensorflow_faults.py")
    text = output_of(start(gateway, program, *(f"{bucket}/{name}" for name in names)))
    astray = [asked for asked in gateway.requests() if not re.search(r"%2Ffault\d\d", asked)]
    assert astray == []
    lines = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    whole, *broken, refused = lines
    assert whole["is_equal"]
    for fault, met, told in zip(FAULTS, gateway.met()[1:-1], broken, strict=True):
        assert met > 0, fault
        assert told == whole, fault
    assert "PermissionDenied" in refused["error"]
