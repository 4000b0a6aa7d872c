"""Where examples come from: read from the shards each epoch, or decoded once and held in memory.

Both give keys in an order (an index, or a numbered record) and load the fields of a key, so that
ordering, skipping and augmentation are written once, in `pipeline.stream.batches`. Loading is the
costly half: decoding a JPEG, or copying it out of memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.records.features import Role, with_role
from pipeline.records.tfrecord import RecordError
from pipeline.stream.parse import decode_image, parse_example, shrink_image
from pipeline.stream.records import Records, check_shards

Cache = Literal["auto", "memory", "none"]
Fields = dict[str, tf.Tensor]  # image uint8 [S, S, 3] or values float32 [D], row, target

# Of the machine's memory, for the examples of one stream: training and validation are both held,
# and the rest is TensorFlow's own.
MEMORY_SHARE = 0.3
# Shards read side by side. A constant: with AUTOTUNE the order would depend on the machine.
SHARDS_AT_ONCE = 8
_ROLES: tuple[Role, ...] = ("row", "image", "values", "target")
_ALIGNMENT_BYTES = 64  # of a tensor's memory; TensorFlow aborts on one that is not


class Examples(Protocol):
    """The examples of some parts, by key."""

    count: int

    def keys(self) -> tf.data.Dataset:
        """Each key once, in the order of the shards."""

    def shuffled_keys(self, seed: int, buffer: int) -> tf.data.Dataset:
        """Each key once, in an order that the seed decides."""

    def load(self, key: tf.Tensor) -> Fields:
        """The fields of one key, `row` among them."""


class StreamedExamples:
    """Reads the shards each time; a key is a serialized example.

    Of records that hold no row (others wrote them) a key is `{"row", "serialized"}`: the row is the
    record's place (`Records.first_rows`).
    """

    def __init__(self, records: Records, parts: Collection[str], image_size_px: int | None) -> None:
        features = records.manifest.features
        self.features = tuple(f for role in _ROLES for f in with_role(features, role))
        for feature in self.features:
            if feature.role in ("row", "image") and feature.shape:
                raise ValueError(
                    f"{records.folder}: feature {feature.name!r} must be one an example to be "
                    f"streamed, got shape {feature.shape}"
                )
        self.count = records.manifest.examples_in(parts)
        self._first_rows = records.first_rows(parts)
        self._has_rows = bool(with_role(features, "row"))
        self._stored_px = records.manifest.size
        self._is_swapped = records.manifest.is_red_blue_swapped
        self._size_px = _checked_size(records, image_size_px)

    def keys(self) -> tf.data.Dataset:
        return self._read(list(self._first_rows))

    def shuffled_keys(self, seed: int, buffer: int) -> tf.data.Dataset:
        # Serialized examples are shuffled, not images: the buffer is ten times smaller. The order
        # of the shards is drawn as well, for a buffer only mixes neighbours.
        paths = np.random.default_rng(seed).permutation(list(self._first_rows))
        return _shuffle(self._read(paths.tolist()), seed, buffer)

    def load(self, key: tf.Tensor | Fields) -> Fields:
        if self._has_rows:
            fields = parse_example(key, self.features)
        else:
            fields = {"row": key["row"], **parse_example(key["serialized"], self.features)}
        for feature in with_role(self.features, "image"):
            image = decode_image(fields[feature.name], self._stored_px)
            if self._is_swapped:
                image = image[..., ::-1]
            if self._size_px is not None and self._size_px != self._stored_px:
                image = shrink_image(image, self._size_px)
            fields[feature.name] = image
        return fields

    def _read(self, paths: Sequence[str]) -> tf.data.Dataset:
        first_rows = [self._first_rows[path] for path in paths]
        shards = tf.data.Dataset.from_tensor_slices(
            (list(paths), tf.constant(first_rows, tf.int64))
        )
        keys = shards.interleave(
            self._read_shard,
            cycle_length=SHARDS_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # A shard that was exchanged for another must not change the number of steps unnoticed.
        return keys.apply(tf.data.experimental.assert_cardinality(self.count))

    def _read_shard(self, path: tf.Tensor, first_row: tf.Tensor) -> tf.data.Dataset:
        serialized = tf.data.TFRecordDataset(path)
        if self._has_rows:
            return serialized
        # A dict, for a pair would be two arguments of a map's function.
        numbered = serialized.enumerate(first_row)
        return numbered.map(lambda row, data: {"row": row, "serialized": data})


class HeldExamples:
    """Decodes each example once, when it is built, and keeps it; a key is an index.

    One array a field, not a `cache()`: any order is then a permutation, skipping is free, and every
    epoch of a fold shares the one copy, also when the first was broken off.
    """

    def __init__(self, streamed: StreamedExamples) -> None:
        self.count = streamed.count
        loaded = streamed.keys().map(
            streamed.load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        arrays = {
            name: _aligned_array((self.count, *spec.shape), spec.dtype.as_numpy_dtype)
            for name, spec in loaded.element_spec.items()
        }
        start = 0
        for fields in loaded.batch(64).prefetch(1).as_numpy_iterator():
            stop = start + len(next(iter(fields.values())))
            for name, values in fields.items():
                arrays[name][start:stop] = values
            start = stop
        # Shares the memory; `convert_to_tensor` would hold every image twice for a while.
        self._fields = {
            name: tf.experimental.dlpack.from_dlpack(array.__dlpack__())
            for name, array in arrays.items()
        }

    def keys(self) -> tf.data.Dataset:
        return tf.data.Dataset.range(self.count)

    def shuffled_keys(self, seed: int, buffer: int) -> tf.data.Dataset:
        order = np.random.default_rng(seed).permutation(self.count)
        return tf.data.Dataset.from_tensor_slices(order)

    def load(self, key: tf.Tensor) -> Fields:
        return {name: tf.gather(values, key) for name, values in self._fields.items()}


def open_examples(
    records: Records, parts: Collection[str], image_size_px: int | None, cache: Cache
) -> Examples:
    """The examples of some parts: held in memory if `cache` says so, or is "auto" and they fit.

    Raises ManifestError for an unknown part, RecordError for a shard that is missing or damaged
    (when streamed, damage within a shard is met later: see `naming_damage`).
    """
    streamed = StreamedExamples(records, parts, image_size_px)
    if cache == "none" or (cache == "auto" and not _fits_in_memory(streamed)):
        return streamed
    with naming_damage(records, parts):
        return HeldExamples(streamed)


def _shuffle(dataset: tf.data.Dataset, seed: int, buffer: int) -> tf.data.Dataset:
    """`Dataset.shuffle` without TensorFlow's global seed, which that mixes into its own."""
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=buffer,
        seed=seed,
        seed2=1,  # two zeros would mean any order
        output_types=[spec.dtype for spec in tf.nest.flatten(dataset.element_spec)],
        output_shapes=[spec.shape for spec in tf.nest.flatten(dataset.element_spec)],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, dataset.element_spec)


@contextlib.contextmanager
def naming_damage(records: Records, parts: Collection[str]) -> Iterator[None]:
    """Within it, an error of TensorFlow that a damaged shard explains becomes a RecordError.

    For loops over a stream: TensorFlow tells neither the file nor the record. The shards of `parts`
    are read once more, after an error only; one that they do not explain passes as it is.
    """
    try:
        yield
    except tf.errors.OpError as error:
        try:
            check_shards(records, parts)
        except RecordError as damage:
            raise damage from error
        raise


def _fits_in_memory(streamed: StreamedExamples) -> bool:
    spec = streamed.keys().map(streamed.load).element_spec
    if not all(field.shape.is_fully_defined() for field in spec.values()):
        return False
    example_bytes = sum(field.shape.num_elements() * field.dtype.size for field in spec.values())
    return streamed.count * example_bytes <= MEMORY_SHARE * memory_bytes()


def memory_bytes() -> int:
    """The memory this process may use: the machine's, or less where a container says so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine
    return machine if limit == "max" else min(machine, int(limit))


def _checked_size(records: Records, image_size_px: int | None) -> int | None:
    stored = records.manifest.size
    if image_size_px is None or not with_role(records.manifest.features, "image"):
        return stored
    if image_size_px < 1 or (stored is not None and image_size_px > stored):
        raise ValueError(
            f"{records.folder}: image_size_px must be from 1 to the {stored} px of the records, "
            f"got {image_size_px}; make records of that size for a larger one"
        )
    return image_size_px


def _aligned_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)
