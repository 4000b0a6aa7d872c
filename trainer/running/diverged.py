"""A loss or weights that are no longer finite: which step, at which rate, on which images.

`trainer.running.epochs` looks at each call's losses. The stream gives the batch of a position at
any time, so nothing need be kept for the case that training fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import storage
from pipeline.errors import DataError

_ROWS_NAMED = 8


class TrainingError(DataError):
    """Training went wrong in a way that more steps would not mend."""


def diverged(
    what: str,
    *,
    where: str,
    learning_rate: float,
    batches: tf.data.Dataset,
    rows: pd.DataFrame,
    path: str,
) -> TrainingError:
    """The error of a step that ended in `what`; writes the ids of its batches into a file.

    Row numbers are printed, ids are not: one may name a patient. `rows` is the records' table.
    """
    batch = np.concatenate([inputs["row"] for inputs, _, _ in batches.as_numpy_iterator()]).tolist()
    ids = rows.set_index("row").loc[batch, ["id"]].reset_index()
    storage.write_text(path, ids.to_csv(index=False))
    named = ", ".join(map(str, batch[:_ROWS_NAMED]))
    more = f" and {len(batch) - _ROWS_NAMED} more" if len(batch) > _ROWS_NAMED else ""
    return TrainingError(
        f"{where}: loss and weights must stay finite, got {what} at learning rate "
        f"{learning_rate:.3g} on rows {named}{more} (ids in {path}); "
        "lower optimizer.learning_rate, or set optimizer.clip_norm = 1.0, and start with --fresh"
    )


def are_finite(model: Any) -> bool:
    """True when no weight or statistic of a model is NaN or infinite."""
    values = [tf.convert_to_tensor(variable) for variable in model.variables]
    return all(
        bool(tf.reduce_all(tf.math.is_finite(value))) for value in values if value.dtype.is_floating
    )
