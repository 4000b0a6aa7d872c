"""TensorBoard's event files of a fold: scalars a call and an epoch, the first batch as pictures.

    tensorboard --logdir runs/image

A run that continues begins another file in the same folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf

PICTURES = 16  # of the first batch


class Board:
    """Writes the events of one fold."""

    def __init__(self, writer: tf.summary.SummaryWriter) -> None:
        self._writer = writer

    def scalars(self, kind: str, step: int, values: Mapping[str, float | None]) -> None:
        """Under `kind/name`, at a step; what is None is left out."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                if value is not None:
                    tf.summary.scalar(f"{kind}/{name}", value)

    def pictures(self, step: int, images: tf.Tensor) -> None:
        """uint8 [B, S, S, 3], augmented as the model sees them."""
        with self._writer.as_default(step=step):
            tf.summary.image("train/first batch", images[:PICTURES], max_outputs=PICTURES)

    def flush(self) -> None:
        """What was written is seen from now on."""
        self._writer.flush()


@contextlib.contextmanager
def opened_board(folder: str) -> Iterator[Board]:
    """A board whose file is whole when the block ends, however it ends."""
    writer = tf.summary.create_file_writer(folder)
    try:
        yield Board(writer)
    finally:
        writer.close()
