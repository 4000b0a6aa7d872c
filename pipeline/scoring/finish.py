"""From finished shards to the output: a predictions file or a CSV, and the rows that failed.

Both appear whole, the output last: while it is missing, the scoring is not done.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.predictions import (
    Predictions,
    check_predictions,
    make_predictions,
    output_classes,
    scores,
    write_predictions,
)
from pipeline.records.commit import write_failed_rows
from pipeline.records.label import LabelInfo
from pipeline.scoring.work import ShardScores

SUFFIXES = (".csv", ".parquet")


def failed_path(output: str) -> str:
    """`scores.failed.csv` beside `scores.parquet`."""
    return f"{output.removesuffix('.csv').removesuffix('.parquet')}.failed.csv"


def write_output(
    output: str,
    rows: pd.DataFrame,
    shards: Sequence[ShardScores],
    sizes: Sequence[int],
    label: LabelInfo,
    about: dict[str, Any],
) -> dict[str, int]:
    """Writes the failed file, then the output; the number of failed rows by reason.

    `sizes` are what the models wanted of each image. Raises PredictionsError for scores that are
    no numbers.
    """
    failures = {failure.row: failure for shard in shards for failure in shard.failures}
    lacking = dict.fromkeys(failures, sorted({str(size) for size in sizes}, key=int))
    predictions = _predictions(rows, shards, label, about)
    check_predictions(predictions, output)
    write_failed_rows(failed_path(output), rows, failures, lacking)
    if output.endswith(".parquet"):
        write_predictions(output, predictions)
    else:
        storage.write_text(output, to_csv(predictions))
    return dict(sorted(collections.Counter(f.reason for f in failures.values()).items()))


def to_csv(predictions: Predictions) -> str:
    """A line a row: id, the score where the label has one, then each class's prob and logit."""
    label, frame = predictions.label, predictions.frame
    columns: dict[str, Any] = {"id": frame["id"]}
    if label.kind == "binary" or (label.kind == "multiclass" and label.positive):
        columns["score"] = scores(predictions).astype(np.float32)
    for name in (f"{kind}_{of}" for kind in ("prob", "logit") for of in output_classes(label)):
        columns[name] = frame[name]
    text: str = pd.DataFrame(columns).to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return text


def _predictions(
    rows: pd.DataFrame, shards: Sequence[ShardScores], label: LabelInfo, about: dict[str, Any]
) -> Predictions:
    """The rows that were scored, as part `unlabelled`."""
    scored = [row for shard in shards for row in shard.rows]
    keys = rows.set_index("row").loc[scored, ["id", "group"]].reset_index()
    keys["part"], keys["fold"] = "unlabelled", -1
    unknown = [-1.0] * len(label.classes)
    is_vector = label.kind == "multilabel"
    keys["target"] = [unknown] * len(keys) if is_vector else np.int64(-1)
    logits, probs = (
        np.concatenate([getattr(shard, kind) for shard in shards]) for kind in ("logits", "probs")
    )
    return make_predictions(keys, logits, probs, label, about)
