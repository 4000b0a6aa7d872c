"""Small tables of predictions for tests, without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.predictions import Predictions, make_predictions, output_classes
from pipeline.records.label import LabelInfo

BINARY = LabelInfo(kind="binary", classes=("benign", "malignant"), positive=("malignant",))
MULTICLASS = LabelInfo(kind="multiclass", classes=("nv", "mel", "bcc"), positive=("mel", "bcc"))
MULTILABEL = LabelInfo(kind="multilabel", classes=("mass", "nodule"))


def toy_predictions(
    label: LabelInfo = BINARY, rows: int = 12, folds: int = 3, seed: int = 0
) -> Predictions:
    """`rows` random predictions whose targets and keys are the same for every seed."""
    index = np.arange(rows)
    keys = pd.DataFrame(
        {
            "row": index,
            "id": [f"ISIC_{row:07d}" for row in index],
            "group": [f"IP_{row // 2:05d}" for row in index],
            "part": [f"fold{row // 2 % folds}" for row in index],
            "fold": index // 2 % folds,
            "target": index % len(label.classes),
        }
    )
    if label.kind == "multilabel":
        keys["target"] = list(np.stack([index % 2, index % 3 == 0], axis=1).astype(np.float32))
    logits = np.random.default_rng(seed).normal(size=(rows, len(output_classes(label))))
    probs = 1 / (1 + np.exp(-logits))
    if label.kind == "multiclass":
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return make_predictions(keys, logits, probs, label, {"fold": 0})
