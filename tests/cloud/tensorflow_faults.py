"""A program that `test_training_gcs` starts: TensorFlow's own gs:// while the gateway breaks it.

    python tests/cloud/tensorflow_faults.py RECORDS.tfrecord FOLDER FAULTS.json

Under each of the faults it reads the records, writes a checkpoint and reads it again; prints a line
of JSON each: how often the fault was met, and what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def control(body: bytes | None = None) -> dict[str, Any]:
    """The gateway's answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{os.environ['STORAGE_EMULATOR_HOST']}/_gateway", body, timeout=60) as told:
        return json.load(told)


def records_digest(path: str) -> str:
    """SHA-256 of the records of a file, one after the other."""
    digest = hashlib.sha256()
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        digest.update(record)
    return digest.hexdigest()


def main() -> None:
    records, folder, faults = sys.argv[1:]
    values = np.random.default_rng(3).standard_normal(500_000).astype(np.float32)
    for number, fault in enumerate(json.loads(Path(faults).read_text())):
        told: dict[str, Any] = {}
        control(json.dumps([fault]).encode())
        try:
            told["records"] = records_digest(records)
            prefix = f"{folder}/{number}/weights"
            tf.train.Checkpoint(values=tf.Variable(values)).write(prefix)
            there = tf.Variable(tf.zeros_like(values))
            tf.train.Checkpoint(values=there).read(prefix).assert_consumed()
            told["is_equal"] = bool(np.array_equal(there.numpy(), values))
        except tf.errors.OpError as error:
            told["error"] = f"{type(error).__name__}: {error.message}"
        print(json.dumps({**told, "met": control()["met"][0]}), flush=True)


if __name__ == "__main__":
    main()
