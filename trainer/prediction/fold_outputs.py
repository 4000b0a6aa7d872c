"""What one fold predicts, made once: kept in a file of its own and taken over by the next command.

`OUTPUT.folds/foldK.npz` holds rows, logits of every view, and a digest of all that they follow
from. So a command that was killed goes on after its last whole fold, and one that differs in how it
averages predicts nothing again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.predictions import PREDICTIONS_NAME
from pipeline.stream.records import Records
from trainer.precision import Precision
from trainer.prediction.assign import Assignment
from trainer.prediction.average import Outputs
from trainer.run_folder import fold_folder
from trainer.trained_run import TrainedRun


def outputs_digest(
    run: TrainedRun, assigned: Assignment, records: Records, views: str, precision: Precision
) -> str:
    """SHA-256 of what a fold's outputs follow from: its weights, the shards, the views.

    For the weights stands the file of the fold's own predictions, which they made. Neither batch
    size nor replicas are in it: they change no more than the last bits.
    """
    own = storage.read_bytes(
        storage.join(fold_folder(run.folder, assigned.number), PREDICTIONS_NAME)
    )
    manifest = records.manifest
    parts = {
        "weights": hashlib.sha256(own).hexdigest(),
        "plan": manifest.plan_digest,
        "shards": [shard.sha256 for shard in manifest.shards_of(assigned.parts)],
        "views": views,
        "precision": precision,
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def outputs_file(output: str, number: int) -> str:
    """Where a fold's outputs lie beside the predictions that are made of them."""
    return storage.join(f"{output.removesuffix('.parquet')}.folds", f"fold{number}.npz")


def write_outputs(file: str, outputs: Outputs, digest: str) -> None:
    """Writes them whole."""
    buffer = io.BytesIO()
    np.savez(buffer, rows=outputs.rows, logits=outputs.logits, digest=np.array(digest))
    storage.write_bytes(file, buffer.getvalue())


def read_outputs(file: str, digest: str) -> Outputs | None:
    """What was written with this digest; None where there is no such file, or a damaged one."""
    try:
        # Without pickles, which numpy refuses unless it is asked for them.
        stored: Any = np.load(io.BytesIO(storage.read_bytes(file)))
        if str(stored["digest"]) != digest:
            return None
        return Outputs(rows=stored["rows"], logits=stored["logits"])
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
