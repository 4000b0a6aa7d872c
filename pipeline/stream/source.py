"""Examples read from the shards each epoch, of one record set or of several mixed.

`open_examples` gives these, or the ones that `pipeline.stream.held` keeps decoded. Both give keys,
the fields of a batch of keys, and the pictures, so that ordering, skipping and augmentation are
written once, in `pipeline.stream.order` and `pipeline.stream.batches`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.records.features import Role, with_role
from pipeline.records.tfrecord import RecordError
from pipeline.stream.augment.ops import Image
from pipeline.stream.hosts import ONE_HOST, Hosts
from pipeline.stream.parse import parse_example
from pipeline.stream.records import Portion, Records, Stretch, find_stretches
from pipeline.stream.render import decode

Cache = Literal["auto", "memory", "disk", "none"]
Fields = dict[str, tf.Tensor]
PictureKeys = Any  # a sequence of (JPEG, row), or int64 [B] indices: as `picture_keys` gave them

# Shards read side by side. A constant: with AUTOTUNE the order would depend on the machine.
SHARDS_AT_ONCE = 8
_PARSED_AT_ONCE = 4
_ROLES: tuple[Role, ...] = ("row", "image", "values", "target", "weight")


class Examples(Protocol):
    """The examples of some parts, by key."""

    count: int
    has_images: bool

    def keys(self) -> tf.data.Dataset:
        """Each key once, in the order of the shards."""

    def fields(self, keys: Fields) -> Fields:
        """A batch of keys → `row`, `target`, `values`, `weight`; in `image` what names pictures."""

    def picture_keys(self, images: npt.NDArray, rows: npt.NDArray[np.int64]) -> PictureKeys:
        """`fields`' image and row of some examples → their keys for the two below."""

    def pictures(self, keys: PictureKeys) -> Sequence[Image]:
        """Some keys of pictures → uint8 [H, W, 3] each. In any thread."""

    def fill(self, keys: PictureKeys, out: npt.NDArray[np.uint8]) -> None:
        """The same into uint8 [B, S, S, 3], for pictures of that size."""


class StreamedExamples:
    """Reads the shards each time; a key is a parsed example, its picture the JPEG's bytes.

    Sets may differ in their features: each is parsed by its own manifest. A key's fields have the
    names of their roles; `weight` is there if any set or row has one.
    """

    def __init__(
        self, portions: Sequence[Portion], picture_px: int | None, hosts: Hosts = ONE_HOST
    ) -> None:
        is_weighted = any(
            portion.weight != 1 or with_role(portion.records.manifest.features, "weight")
            for portion in portions
        )
        self._parsers = [_Parser(portion, is_weighted) for portion in portions]
        self._portions = tuple(portions)
        self._stretches = find_stretches(portions, hosts)
        self.count = sum(stretch.count for stretch in self._stretches)
        self.has_images = bool(with_role(portions[0].records.manifest.features, "image"))
        self._picture_px = picture_px

    def keys(self) -> tf.data.Dataset:
        return self._parse(self._read(self._stretches))

    def shuffled_keys(
        self, seed: int, buffer: int, classes: Collection[int] | None = None
    ) -> tf.data.Dataset:
        """Each key (of some classes) once, in an order that the seed decides."""
        # The order of the shards is drawn as well, for a buffer only mixes neighbours.
        order = np.random.default_rng(seed).permutation(len(self._stretches))
        records = self._read([self._stretches[place] for place in order])
        if classes is None:
            # Shuffled as they were read: a batch waits until the buffer is full, not until all in
            # it is parsed.
            return self._parse(_shuffle(records, seed, buffer))
        wanted = tf.constant(sorted(classes), tf.int64)
        keys = self._parse(records).filter(lambda key: tf.reduce_any(key["target"] == wanted))
        return _shuffle(keys, seed, buffer)

    def fields(self, keys: Fields) -> Fields:
        return keys

    def picture_keys(self, images: npt.NDArray, rows: npt.NDArray[np.int64]) -> PictureKeys:
        return list(zip(images, rows, strict=True))

    def pictures(self, keys: PictureKeys) -> Sequence[Image]:
        return [self._picture(jpeg, row) for jpeg, row in keys]

    def fill(self, keys: PictureKeys, out: npt.NDArray[np.uint8]) -> None:
        for place, (jpeg, row) in enumerate(keys):
            out[place] = self._picture(jpeg, row)

    def _picture(self, jpeg: bytes, row: int) -> Image:
        """Raises RecordError for what cannot be decoded or is too small."""
        if row < 0:  # padding
            return np.zeros((self._picture_px or 1, self._picture_px or 1, 3), np.uint8)
        # Of the portions, in order of their first rows, the last that begins before it.
        portion = next(p for p in reversed(self._portions) if row >= p.first_row)
        is_swapped = portion.records.manifest.is_red_blue_swapped
        try:
            return decode(jpeg, self._picture_px, is_swapped=is_swapped)
        except ValueError as error:
            raise RecordError(
                f"{portion.records.folder}: row {row - portion.first_row}: the stored image must "
                f"be whole, got {error}; mend the row's source and run make_records again"
            ) from error

    def _read(self, stretches: Sequence[Stretch]) -> tf.data.Dataset:
        # A whole shard is read to its end (-1): were it exchanged for a longer one, it would show.
        counts = [-1 if stretch.is_whole else stretch.count for stretch in stretches]
        table = {
            "path": tf.constant([stretch.path for stretch in stretches]),
            "portion": tf.constant([stretch.portion for stretch in stretches], tf.int32),
            "first": tf.constant([stretch.first for stretch in stretches], tf.int64),
            "count": tf.constant(counts, tf.int64),
            "first_row": tf.constant([stretch.first_row for stretch in stretches], tf.int64),
        }
        records = tf.data.Dataset.from_tensor_slices(table).interleave(
            _read_stretch,
            cycle_length=SHARDS_AT_ONCE,
            num_parallel_calls=SHARDS_AT_ONCE,
            deterministic=True,
        )
        # A shard that was exchanged for another must not change the number of steps unnoticed.
        return records.apply(tf.data.experimental.assert_cardinality(self.count))

    def _parse(self, records: tf.data.Dataset) -> tf.data.Dataset:
        def parse(portion: tf.Tensor, place: tf.Tensor, serialized: tf.Tensor) -> Fields:
            if len(self._parsers) == 1:
                return self._parsers[0](place, serialized)
            branches = [functools.partial(parser, place, serialized) for parser in self._parsers]
            return tf.switch_case(portion, branches)

        return records.map(parse, num_parallel_calls=_PARSED_AT_ONCE, deterministic=True)


def _read_stretch(stretch: Fields) -> tf.data.Dataset:
    """(portion, place, serialized example) each."""
    records = tf.data.TFRecordDataset(stretch["path"])
    numbered = records.skip(stretch["first"]).take(stretch["count"])
    numbered = numbered.enumerate(stretch["first_row"])
    return numbered.map(lambda place, data: (stretch["portion"], place, data))


class _Parser:
    """A record of one portion → its key."""

    def __init__(self, portion: Portion, is_weighted: bool) -> None:
        where, features = portion.records.folder, portion.records.manifest.features
        self._features = {}
        for role in _ROLES:
            found = with_role(features, role)
            if len(found) > 1:
                raise ValueError(
                    f"{where}: there must be one feature of role {role!r} to be streamed, got "
                    f"{', '.join(feature.name for feature in found)}"
                )
            if found and found[0].shape and role in ("row", "image", "weight"):
                raise ValueError(
                    f"{where}: feature {found[0].name!r} must be one an example to be streamed, "
                    f"got shape {found[0].shape}"
                )
            if found:
                self._features[role] = found[0]
        self._portion, self._is_weighted = portion, is_weighted

    def __call__(self, place: tf.Tensor, serialized: tf.Tensor) -> Fields:
        """`place` is the row of a record that holds none."""
        parsed = parse_example(serialized, self._features.values())
        key: Fields = {role: parsed[feature.name] for role, feature in self._features.items()}
        key["row"] = key.get("row", place) + self._portion.first_row
        if self._is_weighted:
            weight = tf.cast(key.get("weight", 1.0), tf.float32)
            # A row whose weight is missing counts as one that was given none.
            weight = tf.where(tf.math.is_nan(weight), 1.0, weight)
            key["weight"] = weight * self._portion.weight
        return key


def stored_square_px(records: Records) -> int | None:
    """The side of the stored images if all are squares of one size."""
    fit = records.manifest.render.get("fit", "crop")
    return None if fit in ("short", "long") else records.manifest.size


def padding_of(name: str, values: tf.Tensor) -> tf.Tensor:
    """What fills a field of an example that is none: -1 for row, index and target, else nothing."""
    if values.dtype == tf.string:
        return tf.constant("")
    return tf.cast(-1 if name in ("row", "index", "target") else 0, values.dtype)


def checked_size(records: Records, image_size_px: int | None) -> int | None:
    """The size of a batch's images; ValueError for one that the records cannot give."""
    stored = records.manifest.size
    if image_size_px is None or not with_role(records.manifest.features, "image"):
        return stored
    if image_size_px < 1 or (stored is not None and image_size_px > stored):
        raise ValueError(
            f"{records.folder}: image_size_px must be from 1 to the {stored} px of the records, "
            f"got {image_size_px}; make records of that size for a larger one"
        )
    return image_size_px


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
