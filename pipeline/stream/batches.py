"""The stream: from shards to the batches of a training epoch, or of one evaluation.

A batch is `(inputs, targets, mask)`:
- inputs: `image` float32 [B, S, S, 3] in [0, 1] (or `values` float32 [B, D]), `row` int64 [B] and,
  when a table is given, `metadata` float32 [B, M];
- targets: `target` int64 [B] (-1: unknown) or float32 [B, C]; empty for records without labels;
- mask: float32 [B], 0 for padding.
Shapes are static, for a TPU compiles one program a shape. Called by the trainer, once a fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.records.features import with_role
from pipeline.stream.augment import Op, augment, to_float
from pipeline.stream.records import Records
from pipeline.stream.seeds import shuffle_seed, training_seed
from pipeline.stream.source import Cache, Fields, open_examples

Metadata = npt.NDArray[np.float32]  # [rows, M], indexed by row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """Where training stands: the epoch, and how many of its examples were consumed."""

    epoch: int = 0
    examples: int = 0


class TrainingStream:
    """The training batches of one fold, epoch by epoch.

    The same seed gives the same batches, whatever the number of threads. Examples are opened, and
    decoded if they are held in memory, once: when the stream is built. Held and streamed examples
    come in different orders, for a permutation of all is a better shuffle than a buffer.
    """

    def __init__(
        self,
        records: Records,
        parts: Collection[str],
        *,
        batch_size: int,
        seed: int,
        image_size_px: int | None = None,
        ops: Sequence[Op] = (),
        metadata: Metadata | None = None,
        cache: Cache = "auto",
        shuffle_buffer: int = 4096,
    ) -> None:
        _check(records, parts, batch_size, metadata)
        if batch_size > records.manifest.examples_in(parts):
            raise ValueError(
                f"{records.folder}: batch_size must be at most the number of examples in "
                f"{', '.join(parts)}, {records.manifest.examples_in(parts)}, got {batch_size}"
            )
        self.batch_size = batch_size
        self._seed = seed
        self._ops = tuple(ops)
        self._shuffle_buffer = shuffle_buffer
        self._examples = open_examples(records, parts, image_size_px, cache)
        self._finish = _Finish(records, metadata)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; what is left of the examples sits this epoch out."""
        return self._examples.count // self.batch_size

    def after(self, position: Position, steps: int) -> Position:
        """Where training stands when `steps` more batches were consumed."""
        done = position.examples // self.batch_size + steps
        epochs, steps_done = divmod(done, self.steps_per_epoch)
        return Position(epoch=position.epoch + epochs, examples=steps_done * self.batch_size)

    def epoch(self, position: Position = Position()) -> tf.data.Dataset:
        """The batches of `position.epoch`, from `position.examples` on.

        They are those that the uninterrupted epoch would have given. Two epochs differ in order
        and in augmentation.
        """
        op_seeds = [training_seed(self._seed, position.epoch, i) for i in range(len(self._ops))]

        def load(place: tf.Tensor, key: tf.Tensor) -> Fields:
            fields = self._examples.load(key)
            if "image" in fields and self._ops:
                fields["image"] = augment(fields["image"], self._ops, op_seeds, place)
            return fields

        order = shuffle_seed(self._seed, position.epoch)
        # Shuffled before anything is decoded, so that skipping decodes nothing.
        keys = self._examples.shuffled_keys(order, self._shuffle_buffer)
        # Numbered before the skip: an example's place in the epoch is part of its seed.
        keys = keys.enumerate().skip(position.examples)
        # Decoded and augmented in one call, in parallel, order kept.
        loaded = keys.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # A short last batch would be another shape.
        batches = loaded.batch(self.batch_size, drop_remainder=True)
        # Metadata once a batch, not once an example: a gather is mostly overhead.
        batches = batches.map(self._finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        # The next batch is made while the device works on this one.
        return batches.prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    records: Records,
    parts: Collection[str],
    *,
    batch_size: int,
    image_size_px: int | None = None,
    metadata: Metadata | None = None,
    cache: Cache = "auto",
) -> tf.data.Dataset:
    """Each example of some parts exactly once, in the order of the shards.

    The last batch is filled up with examples of row -1, target -1 and mask 0. May be iterated many
    times; `cache` decides whether the images are decoded each time.
    """
    _check(records, parts, batch_size, metadata)
    examples = open_examples(records, parts, image_size_px, cache)
    loaded = examples.keys().map(
        examples.load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    padding = tf.data.Dataset.from_tensors(_padding(loaded.element_spec))
    padded = loaded.concatenate(padding.repeat(-examples.count % batch_size))
    batches = padded.batch(batch_size, drop_remainder=True)
    finish = _Finish(records, metadata)
    batches = batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


class _Finish:
    """Fields of a batch → (inputs, targets, mask)."""

    def __init__(self, records: Records, metadata: Metadata | None) -> None:
        self._targets = [f.name for f in with_role(records.manifest.features, "target")]
        with tf.device("CPU"):  # where the stream runs; else a GPU would hold it and send it back
            self._metadata = None if metadata is None else tf.constant(metadata)

    def __call__(self, fields: Fields) -> tuple[Fields, Fields, tf.Tensor]:
        inputs = {name: field for name, field in fields.items() if name not in self._targets}
        if "image" in inputs and inputs["image"].dtype == tf.uint8:
            inputs["image"] = to_float(inputs["image"])
        is_real = inputs["row"] >= 0
        if self._metadata is not None:
            found = tf.gather(self._metadata, tf.maximum(inputs["row"], 0))
            inputs["metadata"] = tf.where(is_real[:, None], found, 0.0)
        targets = {name: fields[name] for name in self._targets}
        return inputs, targets, tf.cast(is_real, tf.float32)


def _padding(spec: dict[str, tf.TensorSpec]) -> Fields:
    """An example that is none: row and target -1, the rest zeros."""
    return {
        name: tf.fill(field.shape, tf.cast(-1 if name in ("row", "target") else 0, field.dtype))
        for name, field in spec.items()
    }


def _check(
    records: Records, parts: Collection[str], batch_size: int, metadata: Metadata | None
) -> None:
    if batch_size < 1:
        raise ValueError(f"{records.folder}: batch_size must be at least 1, got {batch_size}")
    if not records.manifest.examples_in(parts):
        raise ValueError(f"{records.folder}: parts must hold an example, got none in {list(parts)}")
    if metadata is not None and (metadata.ndim != 2 or metadata.dtype != np.float32):
        raise ValueError(
            f"{records.folder}: metadata must be float32 [rows, M], got {metadata.dtype} of shape "
            f"{metadata.shape}"
        )
