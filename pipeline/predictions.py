"""The predictions file: what a run says about each row, and all that ensembles and reports read.

Columns: `row` int64, `id`, `group`, `part` text, `fold` int64 (the run's merged fold, -1 outside
folds), `target` (int64, -1 unknown; a list of float32 for multilabel), then `logit_CLASS` and
`prob_CLASS` float32 for each class the model has an output for. A binary model has one:
`classes[1]`. The Parquet schema holds the label and where the predictions come from, so a file
explains itself.
"""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from pipeline.records.label import LabelInfo, label_from_json

SCHEMA_VERSION = 1
PREDICTIONS_NAME = "predictions.parquet"
SCHEMA_KEY = b"foldstream"

KEY_COLUMNS = ("row", "id", "group", "part", "fold", "target")


class PredictionsError(DataError):
    """A predictions file is missing, damaged, or not what its schema says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """A table in order of row, what its target means, and where it comes from (plain JSON)."""

    frame: pd.DataFrame
    label: LabelInfo
    run: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def probs(self) -> npt.NDArray[np.float64]:
        """float64 [N, L] in [0, 1], a column an output class."""
        return self._matrix("prob")

    @property
    def logits(self) -> npt.NDArray[np.float64]:
        """float64 [N, L], a column an output class."""
        return self._matrix("logit")

    @property
    def targets(self) -> npt.NDArray[Any]:
        """int64 [N], or float64 [N, L] for multilabel; -1 is unknown."""
        if self.label.kind == "multilabel":
            shape = (len(self.frame), len(self.label.classes))
            return np.array(self.frame["target"].tolist(), np.float64).reshape(shape)
        return self.frame["target"].to_numpy(np.int64)

    def _matrix(self, kind: str) -> npt.NDArray[np.float64]:
        columns = [f"{kind}_{name}" for name in output_classes(self.label)]
        return self.frame[columns].to_numpy(np.float64)


def output_classes(label: LabelInfo) -> tuple[str, ...]:
    """The classes a model has a logit for: all of them, or the second of a binary label."""
    return label.classes[1:] if label.kind == "binary" else label.classes


def make_predictions(
    keys: pd.DataFrame,
    logits: npt.NDArray[np.floating],
    probs: npt.NDArray[np.floating],
    label: LabelInfo,
    run: dict[str, Any],
) -> Predictions:
    """Joins the key columns of N rows with `[N, L]` logits and probabilities, in order of row."""
    outputs = {
        f"{kind}_{name}": values[:, place].astype(np.float32)
        for kind, values in (("logit", logits), ("prob", probs))
        for place, name in enumerate(output_classes(label))
    }
    columns = {name: keys[name].to_numpy() for name in KEY_COLUMNS}
    frame = pd.DataFrame({**columns, **outputs})
    return Predictions(frame=_in_order(frame), label=label, run=run)


def concatenate(parts: list[Predictions], run: dict[str, Any]) -> Predictions:
    """One table of several folds of the same label, in order of row."""
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    return Predictions(frame=_in_order(frame), label=parts[0].label, run=run)


def write_predictions(path: str, predictions: Predictions) -> None:
    """Checks the table and writes it whole; a file that is there is replaced."""
    check_predictions(predictions, path)
    about = {
        "schema_version": SCHEMA_VERSION,
        "label": dataclasses.asdict(predictions.label),
        "run": predictions.run,
    }
    table = pa.Table.from_pandas(predictions.frame, preserve_index=False)
    table = table.replace_schema_metadata({SCHEMA_KEY: json.dumps(about).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.write_bytes(path, buffer.getvalue())


def predictions_file(path: str) -> str:
    """The file that `path` names: itself, or the one of a run folder."""
    return storage.join(path) if path.endswith(".parquet") else storage.join(path, PREDICTIONS_NAME)


def run_folder_of(path: str) -> str:
    """The run folder that `path` names, which may be a predictions file in it."""
    return storage.parent(path) if path.endswith(".parquet") else path


def read_predictions(path: str) -> Predictions:
    """A predictions file, or the one of a run folder, checked.

    Raises:
      SettingsError: what `path` names is not there.
      PredictionsError: the run has none yet, the file is none, or its table is at fault.
    """
    file = predictions_file(path)
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(file)))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        is_run = not path.endswith(".parquet") and storage.exists(path)
        raise (PredictionsError if is_run else SettingsError)(
            f"{file}: no such file; give a run folder whose folds are trained, or a .parquet file"
        ) from error
    except pa.ArrowInvalid as error:
        raise PredictionsError(f"{file}: not a Parquet file: {error}") from error
    about = json.loads((table.schema.metadata or {}).get(SCHEMA_KEY, b"{}"))
    if about.get("schema_version") != SCHEMA_VERSION:
        raise PredictionsError(
            f"{file}: schema_version must be {SCHEMA_VERSION}, got {about.get('schema_version')}; "
            "write the file with trainer.task or pipeline.predictions of this version"
        )
    predictions = Predictions(
        frame=table.to_pandas(),
        label=label_from_json(about["label"]),
        run=about["run"],
    )
    check_predictions(predictions, file)
    return predictions


def check_predictions(predictions: Predictions, where: str) -> None:
    """Raises PredictionsError for a missing column, a repeated row or id, a value that is no
    number.

    Messages give counts and row numbers, never ids.
    """
    frame, classes = predictions.frame, output_classes(predictions.label)
    wanted = [*KEY_COLUMNS, *(f"{kind}_{name}" for kind in ("logit", "prob") for name in classes)]
    lacking = [name for name in wanted if name not in frame.columns]
    if lacking:
        raise PredictionsError(
            f"{where}: columns must include {lacking[0]!r}, got {', '.join(frame.columns)}; "
            "predict again with trainer.task"
        )
    for column in ("row", "id"):
        is_repeated = frame[column].duplicated().to_numpy()
        if is_repeated.any():
            raise PredictionsError(
                f"{where}: {column} must be unique, got {is_repeated.sum()} repeated "
                f"(first at row {frame['row'].iloc[is_repeated.argmax()]}); "
                "average several predictions of one row before writing them"
            )
    is_bad = ~np.isfinite(np.concatenate([predictions.logits, predictions.probs], axis=1)).all(1)
    if is_bad.any():
        raise PredictionsError(
            f"{where}: logits and probs must be finite, got {is_bad.sum()} rows that are not "
            f"(first row {frame['row'].iloc[is_bad.argmax()]}); the training diverged: "
            "lower optimizer.learning_rate"
        )


def scores(predictions: Predictions) -> npt.NDArray[np.float64]:
    """float64 [N] in [0, 1]: how positive each row is.

    The probability of `classes[1]` for a binary label; the sum over `positive` for multiclass.

    Raises:
      PredictionsError: the label has no single score (multilabel, or no positive class named).
    """
    label = predictions.label
    if label.kind == "binary":
        return predictions.probs[:, 0]
    if label.kind != "multiclass" or not label.positive:
        raise PredictionsError(
            f"scores: label must be binary, or multiclass with positive classes, got {label.kind}; "
            "name them under [label] positive in the dataset spec"
        )
    return np.asarray(predictions.probs[:, positive_places(label)].sum(axis=1))


def positive_places(label: LabelInfo) -> list[int]:
    """The class indices of `positive`, in order of class."""
    return [place for place, name in enumerate(label.classes) if name in label.positive]


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("row", ignore_index=True)
