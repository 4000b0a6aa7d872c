"""Reports to Vertex AI's tuner: the file of cloudml-hypertune, where there is a trial."""

import json
import time

from records_factory import write_toy_records
from trainer.hypertune import report_trial
from trainer.trial import main


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_outside_a_trial_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("CLOUD_ML_TRIAL_ID", raising=False)
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(tmp_path / "output.metrics"))
    assert not report_trial({"auc": 0.5}, step=1)
    assert not list(tmp_path.iterdir())


def test_a_report_is_a_line_with_figures_as_text(tmp_path, monkeypatch):
    path = tmp_path / "hypertune" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "7")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    assert report_trial({"auc": 0.987, "average_precision": float("nan")}, step=5)
    assert report_trial({"auc": 1}, step=6)
    first, second = read(path)  # the figure that is no number is in no line
    assert abs(first.pop("timestamp") - time.time()) < 60
    assert first == {"auc": "0.987", "global_step": "5", "trial": "7"}
    assert second["auc"] == "1.0"


def test_a_trial_trains_with_the_tuners_settings_and_reports_its_pooled_auc(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_TRIAL_ID", "3")
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(path))
    write_toy_records(tmp_path / "records")
    words = [
        "--records", f"{tmp_path}/records", "--run", f"{tmp_path}/run", "--folds", "0",
        "--model.backbone=small-cnn", "--train.epochs=1.0", "--train.batch_size=8",
        "--optimizer.learning_rate=0.002",
    ]  # fmt: skip
    assert main(words) == 0
    [auc, precision] = read(path)
    assert (auc["trial"], auc["global_step"]) == ("3", "1")
    assert f"pooled     AUC {float(auc['auc']):.4f}" in capsys.readouterr().out
    assert 0 <= float(precision["average_precision"]) <= 1
