"""A program that `test_training_gcs` starts: TensorFlow's own gs:// while the gateway breaks it.

    python tests/cloud/tensorflow_faults.py FOLDER…

In each folder, whose requests the gateway breaks in a way of its own, it reads `records.tfrecord`,
writes a checkpoint and reads it again: in all of them at once, since most of it is waiting. Prints
a line of JSON a folder: what came of it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf


def records_digest(path: str) -> str:
    """SHA-256 of the records of a file, one after the other."""
    digest = hashlib.sha256()
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        digest.update(record)
    return digest.hexdigest()


def read_and_write(folder: str) -> dict[str, Any]:
    """Of a folder: its records' digest and whether the checkpoint is equal, or the error."""
    values = np.random.default_rng(3).standard_normal(500_000).astype(np.float32)
    told: dict[str, Any] = {}
    try:
        told["records"] = records_digest(f"{folder}/records.tfrecord")
        prefix = f"{folder}/checkpoint/weights"
        tf.train.Checkpoint(values=tf.Variable(values)).write(prefix)
        there = tf.Variable(tf.zeros_like(values))
        tf.train.Checkpoint(values=there).read(prefix).assert_consumed()
        told["is_equal"] = bool(np.array_equal(there.numpy(), values))
    except tf.errors.OpError as error:
        told["error"] = f"{type(error).__name__}: {error.message}"
    return told


def main() -> None:
    folders = sys.argv[1:]
    with ThreadPoolExecutor(len(folders)) as pool:
        for told in pool.map(read_and_write, folders):
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
