"""What TensorFlow's errors do not say: which file, record and byte, or which row, is damaged."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence

import tensorflow as tf

from pipeline.records.tfrecord import RecordError
from pipeline.stream.records import Portion, Records, check_shards

# An error of `StreamedExamples.pictures`, as TensorFlow hands on what a Python function raised.
_OF_A_PICTURE = re.compile(rf"\b{RecordError.__name__}: (.+)")


@contextlib.contextmanager
def naming_damage(
    records: Records, parts: Collection[str], extras: Sequence[Portion] = ()
) -> Iterator[None]:
    """Within it, an error of TensorFlow that damaged records explain becomes a RecordError.

    For loops over a stream of these. Their shards are read once more, after an error only; one that
    they do not explain passes as it is.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if found := _OF_A_PICTURE.search(error.message):
            raise RecordError(found[1]) from error
        try:
            check_shards(records, parts)
            for extra in extras:
                check_shards(extra.records, extra.parts)
        except RecordError as damage:
            raise damage from error
        raise
