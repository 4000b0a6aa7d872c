"""The CSV for a competition's server: ids, and the positive score or one of each class.

`trainer.ensemble` and `trainer.predict` write it.
"""

from __future__ import annotations

import pandas as pd

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.predictions import Predictions, output_classes, scores
from pipeline.records.label import LabelInfo

COLUMNS = ("image_name", "target")  # of the id, then of each score


def check_columns(label: LabelInfo, columns: tuple[str, ...]) -> None:
    """Raises SettingsError unless there is a column for the id and for each score."""
    wanted = 2 if _has_one_score(label) else 1 + len(output_classes(label))
    if len(columns) != wanted:
        raise SettingsError(
            f"--submission_columns: there must be {wanted}, of the id and of each score, got "
            f"{', '.join(columns)}"
        )


def write_submission(file: str, predictions: Predictions, columns: tuple[str, ...]) -> None:
    """Writes the table whole, in order of row."""
    has_one = _has_one_score(predictions.label)
    values = scores(predictions)[:, None] if has_one else predictions.probs
    table = pd.DataFrame(
        {columns[0]: predictions.frame["id"], **dict(zip(columns[1:], values.T, strict=True))}
    )
    text = table.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    storage.write_bytes(file, text.encode())


def _has_one_score(label: LabelInfo) -> bool:
    return label.kind == "binary" or bool(label.kind == "multiclass" and label.positive)
