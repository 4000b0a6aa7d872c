"""The stream: from shards to the batches of a training epoch, or of one evaluation.

A batch is `(inputs, targets, mask)`:
- inputs: `image` uint8 [B, S, S, 3] (or `values` float32 [B, D]), `row` int64 [B] and, when a table
  is given, `metadata` float32 [B, M]; the step makes the image `to_float`, so a quarter of the
  bytes goes to the device;
- targets: `target` int64 [B] (-1: unknown) or float32 [B, C]; empty for records without labels;
- mask: float32 [B], 0 for padding; in training, the example's weight.
Shapes are static, for a TPU compiles one program a shape. Called by the trainer, once a fold.

Rows of further sets (`extras`) are counted on from the first set's; a metadata table must have them
as well. A row's weight is its set's times its own, where the records have a feature of that role.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.stream.augment.chain import Border, Chain
from pipeline.stream.augment.ops import Op
from pipeline.stream.held import MEMORY_SHARE, HeldExamples, open_examples
from pipeline.stream.hosts import ONE_HOST, Hosts
from pipeline.stream.order import choose_order
from pipeline.stream.records import Portion, Records
from pipeline.stream.render import render_batch, render_views
from pipeline.stream.sampling import Sampling, find_strata
from pipeline.stream.seeds import training_seed
from pipeline.stream.source import Cache, Examples, Fields, checked_size, padding_of
from pipeline.stream.views import View

Metadata = npt.NDArray[np.float32]  # [rows, M], indexed by row
_INPUTS, _TARGETS = ("image", "row", "values"), ("target",)
# Batches rendered side by side, each by all cores: the second fills the first one's end.
_BATCHES_AT_ONCE = 2
_BATCHES_AHEAD = 2  # of the device, while it works on another


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

    With `hosts`, `batch_size` is that of all together, and the stream gives this host's share of
    each batch. `rows` chooses some examples of the parts and holds them.
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
        border: Border = "reflect",
        metadata: Metadata | None = None,
        extras: Sequence[Portion] = (),
        sampling: Sampling = "natural",
        rows: Collection[int] | None = None,
        cache: Cache = "auto",
        memory_share: float = MEMORY_SHARE,
        cache_folder: str | None = None,
        shuffle_buffer: int = 4096,
        hosts: Hosts = ONE_HOST,
    ) -> None:
        _check(records, parts, batch_size, metadata, rows, hosts)
        portions = (Portion(records=records, parts=tuple(parts)), *extras)
        self._count = sum(portion.examples for portion in portions) if rows is None else len(rows)
        if batch_size > self._count:
            raise ValueError(
                f"{records.folder}: batch_size must be at most the number of examples in "
                f"{', '.join(parts)}{' and extra sets' if extras else ''}, {self._count}, got "
                f"{batch_size}"
            )
        self.batch_size = batch_size
        self._seed, self._hosts = seed, hosts
        self._op_count = len(ops)
        strata = find_strata(
            sampling, records.manifest.label, _class_counts(portions), records.folder
        )
        size_px = checked_size(records, image_size_px)
        self._chain = None if size_px is None else Chain(ops, size_px=size_px, border=border)
        self._examples = open_examples(
            portions,
            None if self._chain and self._chain.needs_stored else size_px,
            cache,
            memory_share=memory_share,
            folder=cache_folder,
            hosts=hosts,
            rows=rows,
        )
        self._order = choose_order(
            self._examples,
            strata,
            seed=seed,
            shuffle_buffer=shuffle_buffer,
            memory_share=memory_share,
        )
        self._finish = _Finish(metadata, is_training=True)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; what is left of the examples sits this epoch out."""
        return self._count // self.batch_size

    @property
    def is_held(self) -> bool:
        """True when decoded examples are kept, and come in the order that goes with it."""
        return isinstance(self._examples, HeldExamples)

    def after(self, position: Position, steps: int) -> Position:
        """Where training stands when `steps` more batches were consumed."""
        done = position.examples // self.batch_size + steps
        epochs, steps_done = divmod(done, self.steps_per_epoch)
        return Position(epoch=position.epoch + epochs, examples=steps_done * self.batch_size)

    def epoch(
        self, position: Position = Position(), context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        """The batches of `position.epoch`, from `position.examples` on.

        They are those that the uninterrupted epoch would have given. Two epochs differ in order
        and in augmentation. With a context batches are one replica's each, in turn.
        """
        op_seeds = [training_seed(self._seed, position.epoch, i) for i in range(self._op_count)]
        hosts = self._hosts
        # Shuffled before anything is decoded, so that skipping decodes nothing.
        keys = self._order.keys(position.epoch)
        # Numbered before the skip: an example's place in the epoch is part of its seed.
        keys = keys.enumerate().skip(position.examples // hosts.count)
        # What does not fill a batch of all replicas sits this epoch out.
        left = self.steps_per_epoch * self.batch_size - position.examples
        batches = keys.take(left // hosts.count).batch(
            _replica_batch(self.batch_size, hosts, context), drop_remainder=True
        )
        loader = _Loader(self._examples, self._chain, op_seeds, hosts)
        return _load(batches, loader, self._finish)


def evaluation_batches(
    records: Records,
    parts: Collection[str],
    *,
    batch_size: int,
    image_size_px: int | None = None,
    metadata: Metadata | None = None,
    views: Sequence[View] = (),
    rows: Collection[int] | None = None,
    cache: Cache = "auto",
    memory_share: float = MEMORY_SHARE,
    cache_folder: str | None = None,
    hosts: Hosts = ONE_HOST,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Each example of some parts (or those of `rows`) exactly once, in the order of the shards.

    The last batch is filled up with examples of row -1, target -1 and mask 0. May be iterated many
    times; `cache` decides whether the images are decoded each time. With a context batches are one
    replica's each, in turn, filled up to a whole number of batches of all replicas. With `hosts`
    each gives its share of the examples, and all of them equally many batches.

    With V `views` of `image_size_px` a batch has V images of each of its `batch_size` examples, one
    after the other, and each example's other fields V times.
    """
    _check(records, parts, batch_size, metadata, rows, hosts)
    size_px = checked_size(records, image_size_px)
    portion = Portion(records=records, parts=tuple(parts))
    needs_stored = any(view.chain.needs_stored for view in views)
    examples = open_examples(
        [portion],
        None if needs_stored else size_px,
        cache,
        memory_share=memory_share,
        folder=cache_folder,
        hosts=hosts,
        rows=rows,
    )
    count = portion.examples if rows is None else len(rows)
    host_batch = batch_size // hosts.count
    batches_of_all = -(-count // batch_size)
    keys = examples.keys()
    padding = tf.data.Dataset.from_tensors(_padding(keys.element_spec))
    padded = keys.concatenate(padding.repeat(batches_of_all * host_batch - examples.count))
    batches = padded.enumerate().batch(
        _replica_batch(batch_size, hosts, context), drop_remainder=True
    )
    loader: _Loader | _ViewLoader = (
        _ViewLoader(examples, views)
        if views
        else _Loader(examples, None if size_px is None else Chain((), size_px=size_px), [], hosts)
    )
    return _load(batches, loader, _Finish(metadata, is_training=False))


def to_float(image: tf.Tensor) -> tf.Tensor:
    """uint8 of any shape → float32 in [0, 1]; for the step, on the device."""
    return tf.cast(image, tf.float32) * (1 / 255)


class _Loader:
    """Places and keys of a batch → its fields, pictures rendered."""

    def __init__(
        self, examples: Examples, chain: Chain | None, op_seeds: Sequence[int], hosts: Hosts
    ) -> None:
        self._examples, self._chain, self._op_seeds = examples, chain, op_seeds
        self._hosts = hosts

    def __call__(self, places: tf.Tensor, keys: Fields) -> Fields:
        fields = self._examples.fields(keys)
        if self._examples.has_images:
            # No two hosts have a place in common.
            places = places * self._hosts.count + self._hosts.index
            fields["image"] = self._images(fields["image"], fields["row"], places)
        return fields

    def _images(self, pictures: tf.Tensor, rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        chain = self._chain
        assert chain is not None  # images have a size
        if chain.is_empty and isinstance(self._examples, HeldExamples):
            return self._examples.squares(pictures)
        # Not stateful: nothing is kept from one call to the next.
        image = tf.numpy_function(self._render, [pictures, rows, places], tf.uint8, stateful=False)
        return tf.ensure_shape(image, [pictures.shape[0], chain.size_px, chain.size_px, 3])

    def _render(
        self,
        pictures: npt.NDArray,
        rows: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.uint8]:
        assert self._chain is not None
        keys = self._examples.picture_keys(pictures, rows)
        return render_batch(self._examples, keys, self._chain, self._op_seeds, places)


class _ViewLoader:
    """Keys of a batch → its fields, each example's as often as it has views."""

    def __init__(self, examples: Examples, views: Sequence[View]) -> None:
        self._examples, self._views = examples, tuple(views)

    def __call__(self, places: tf.Tensor, keys: Fields) -> Fields:
        fields = self._examples.fields(keys)
        size_px = self._views[0].chain.size_px
        count = len(self._views) * fields["row"].shape[0]
        pictures = [fields.pop("image"), fields["row"]]
        repeated = {
            name: tf.ensure_shape(
                tf.repeat(values, len(self._views), axis=0), [count, *values.shape[1:]]
            )
            for name, values in fields.items()
        }
        image = tf.numpy_function(self._render, pictures, tf.uint8, stateful=False)
        return {**repeated, "image": tf.ensure_shape(image, [count, size_px, size_px, 3])}

    def _render(self, pictures: npt.NDArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        keys = self._examples.picture_keys(pictures, rows)
        return render_views(self._examples, keys, self._views, rows)


class _Finish:
    """Fields of a batch → (inputs, targets, mask)."""

    def __init__(self, metadata: Metadata | None, *, is_training: bool) -> None:
        self._is_training = is_training
        with tf.device("CPU"):  # where the stream runs; else a GPU would hold it and send it back
            self._metadata = None if metadata is None else tf.constant(metadata)

    def __call__(self, fields: Fields) -> tuple[Fields, Fields, tf.Tensor]:
        inputs: Fields = {name: fields[name] for name in _INPUTS if name in fields}
        targets: Fields = {name: fields[name] for name in _TARGETS if name in fields}
        is_real = inputs["row"] >= 0
        if self._metadata is not None:
            found = tf.gather(self._metadata, tf.maximum(inputs["row"], 0))
            inputs["metadata"] = tf.where(is_real[:, None], found, 0.0)
        mask = tf.cast(is_real, tf.float32)
        if self._is_training and "weight" in fields:
            mask *= fields["weight"]
        return inputs, targets, mask


def _load(
    batches: tf.data.Dataset, loader: _Loader | _ViewLoader, finish: _Finish
) -> tf.data.Dataset:
    """(places, keys) a batch → (inputs, targets, mask), made ahead of the device."""
    batches = batches.map(loader, num_parallel_calls=_BATCHES_AT_ONCE, deterministic=True)
    batches = batches.map(finish).prefetch(_BATCHES_AHEAD)
    # Without rewriting each epoch's graph: it takes a third of an epoch's start, finds nothing to
    # better in a few steps of given parallelism, and copies all that is held in memory.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    # Batches are made from the moment that an iterator is there, not from its first use.
    options.experimental_warm_start = True
    return batches.with_options(options)


def _padding(spec: dict[str, tf.TensorSpec]) -> Fields:
    """A key of an example that is none."""
    return {name: tf.fill(field.shape, padding_of(name, field)) for name, field in spec.items()}


def _class_counts(portions: Sequence[Portion]) -> collections.Counter[str]:
    counts: collections.Counter[str] = collections.Counter()
    for portion in portions:
        for name in portion.parts:
            counts.update(portion.records.manifest.part(name).classes)
    return counts


def _replica_batch(
    batch_size: int, hosts: Hosts, context: tf.distribute.InputContext | None
) -> int:
    if context is None:
        return batch_size // hosts.count
    if context.num_input_pipelines != hosts.count:
        raise ValueError(
            f"hosts must be as many as input pipelines, {context.num_input_pipelines}, got "
            f"{hosts.count}"
        )
    return int(context.get_per_replica_batch_size(batch_size))


def _check(
    records: Records,
    parts: Collection[str],
    batch_size: int,
    metadata: Metadata | None,
    rows: Collection[int] | None,
    hosts: Hosts,
) -> None:
    where = records.folder
    if batch_size < 1:
        raise ValueError(f"{where}: batch_size must be at least 1, got {batch_size}")
    if batch_size % hosts.count:
        raise SettingsError(
            f"{where}: batch_size must be a multiple of the {hosts.count} hosts, got {batch_size}"
        )
    if not records.manifest.examples_in(parts):
        raise ValueError(f"{where}: parts must hold an example, got none in {list(parts)}")
    if rows is not None and (not rows or hosts.count > 1):
        raise ValueError(
            f"{where}: rows must be some, and of one host, got {len(rows)} for {hosts.count}"
        )
    if metadata is not None and (metadata.ndim != 2 or metadata.dtype != np.float32):
        raise ValueError(
            f"{where}: metadata must be float32 [rows, M], got {metadata.dtype} of shape "
            f"{metadata.shape}"
        )
