"""Tells Vertex AI's tuner what a trial is worth, where a tuner is listening.

The file is the one that the package cloudml-hypertune 0.1.0.dev6 writes (its last release, of 2019;
https://github.com/GoogleCloudPlatform/cloudml-hypertune): a line of JSON a report, figures as text.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

import numpy as np

from pipeline import storage

_DEFAULT_PATH = "/tmp/hypertune/output.metrics"


def report_trial(figures: Mapping[str, float], step: int) -> bool:
    """Reports each figure by its name; False where CLOUD_ML_TRIAL_ID names no trial.

    `step` tells one report of a trial from the next. A figure that is no number is left out: the
    tuner would take the trial for broken.
    """
    trial = os.environ.get("CLOUD_ML_TRIAL_ID")
    if trial is None:
        return False
    path = os.environ.get("CLOUD_ML_HP_METRIC_FILE", _DEFAULT_PATH)
    lines = storage.read_text(path) if storage.exists(path) else ""
    for name, value in figures.items():
        if np.isfinite(value):
            report = {
                "timestamp": time.time(),
                "trial": trial,
                name: str(float(value)),
                "global_step": str(step),
            }
            lines += json.dumps(report, sort_keys=True) + "\n"
    storage.write_text(path, lines)
    return True
