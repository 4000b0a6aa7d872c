"""Training on gs://: two steps a fold, killed and continued, to views, ensemble, report, export."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import storage
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


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(gateway, bucket, tmp_path):
    write_toy_records(tmp_path, rows=24, parts=("fold0", "fold1"))
    put(tmp_path, f"{bucket}/out/32")
    storage.write_text(f"{bucket}/recipe.toml", RECIPE)
    words = ["--records", f"{bucket}/out/32", "--config", f"{bucket}/recipe.toml"]
    words += ["--folds", "0"]

    # The second step's checkpoint takes its time, so that the kill meets it.
    gateway.breaks({"kind": "delay", "match": "fold0.*step-00000002", "seconds": 3})
    killed = start(gateway, "-m", "trainer.task", *words, "--run", f"{bucket}/runs/killed")
    first = f"{bucket}/runs/killed/fold0/checkpoints/step-00000001/state.json"
    give_up = time.monotonic() + WAIT_S
    while not storage.exists(first):
        assert killed.poll() is None, killed.stdout.read()
        assert time.monotonic() < give_up
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    gateway.breaks()
    assert not storage.exists(f"{bucket}/runs/killed/fold0/predictions.parquet")
    assert storage.exists(f"{bucket}/runs/killed/fold0/training.lock")  # nobody let it go

    program = (
        "import sys; from trainer.task import main; from trainer.export import main as export\n"
        "from trainer.predict import main as predict\n"
        f"words = {words!r}\n"
        f"code = main([*words, '--run', '{bucket}/runs/killed'])\n"
        f"code = code or main([*words, '--run', '{bucket}/runs/whole'])\n"
        f"of_fold = ['--run', '{bucket}/runs/killed', '--folds', '0']\n"
        "code = code or predict([*of_fold, *words[:2], '--views', 'flips'])\n"
        "sys.exit(code or export(of_fold))"
    )
    text = output_of(start(gateway, "-c", program))
    assert "fold 0: goes on after step 1" in text
    there, wanted = (read_predictions(f"{bucket}/runs/{name}") for name in ("killed", "whole"))
    assert there.frame.equals(wanted.frame)
    assert len(there.frame) == 12
    views = read_predictions(f"{bucket}/runs/killed/predictions-oof-flips.parquet")
    assert views.frame["row"].equals(there.frame["row"])
    assert (views.probs != there.probs).any()
    names = set(storage.walk(f"{bucket}/runs/killed"))
    assert {
        "export/fold0/saved_model.pb",
        "export/fold0/model.json",
        "fold0/metrics.jsonl",
    } <= names
    assert any(name.startswith("fold0/tensorboard/events") for name in names)
    assert not any(name.endswith(".lock") for name in names)

    runs = [f"{bucket}/runs/killed", f"{bucket}/runs/whole"]
    assert ensemble([*runs, "--method", "mean", "--output", f"{bucket}/both.parquet"]) == 0
    probs = read_predictions(f"{bucket}/both.parquet").probs
    np.testing.assert_allclose(probs, there.probs, atol=1e-6)
    flags = ["--records", f"{bucket}/out/32", "--model_card", f"{bucket}/card.md", "--draws", "50"]
    page = f"{bucket}/report/report.html"
    assert report([f"{bucket}/both.parquet", runs[0], "--output", page, *flags]) == 0
    assert storage.list_names(f"{bucket}/report") == ["metrics.json", "report.html"]


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
