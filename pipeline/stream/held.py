"""Examples decoded once and kept, in memory or in a file that is mapped into it.

One array a field, not a `cache()`: any order is then a permutation, skipping is free, and every
epoch of a fold shares the one copy, also when the first was broken off.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.errors import DataError, SettingsError
from pipeline.stream.augment.ops import Image
from pipeline.stream.damage import naming_damage
from pipeline.stream.hosts import ONE_HOST, Hosts
from pipeline.stream.records import Portion
from pipeline.stream.render import in_chunks
from pipeline.stream.source import (
    Cache,
    Examples,
    Fields,
    PictureKeys,
    StreamedExamples,
    padding_of,
    stored_square_px,
)

# Of the machine's memory, for the examples of one stream: training and validation are both held,
# and the rest is TensorFlow's own.
MEMORY_SHARE = 0.3
_ALIGNMENT_BYTES = 64  # of a tensor's memory; TensorFlow aborts on one that is not
_READ_AT_ONCE = 256  # examples


class HeldExamples:
    """Decodes each example once, when it is built, and keeps it; a key is an index.

    With `rows`, those alone. With `is_on_disk` the pictures lie in a file under `folder` (None: the
    system's for temporary files), which has no name: it is gone with the process, however it ends.
    """

    def __init__(
        self,
        streamed: StreamedExamples,
        picture_px: int | None,
        *,
        rows: Collection[int] | None = None,
        is_on_disk: bool = False,
        folder: str | None = None,
    ) -> None:
        keys = streamed.keys()
        self.count, self.has_images = streamed.count, streamed.has_images
        if rows is not None:
            wanted = tf.constant(sorted(rows), tf.int64)
            keys = keys.filter(lambda key: tf.reduce_any(key["row"] == wanted))
            self.count = len(wanted)
        # One more than there are: the last is the example that is none, for padding.
        arrays = {}
        for name, spec in keys.element_spec.items():
            if name != "image":
                shape = (self.count + 1, *spec.shape)
                arrays[name] = _in_memory(shape, spec.dtype.as_numpy_dtype)
                arrays[name][-1] = padding_of(name, spec).numpy()
        if self.has_images:
            assert picture_px is not None
            shape = (self.count + 1, picture_px, picture_px, 3)
            self._pictures = _on_disk(shape, folder) if is_on_disk else _in_memory(shape, np.uint8)
            self._pictures[-1] = 0
        start = 0
        for fields in keys.batch(_READ_AT_ONCE).prefetch(1).as_numpy_iterator():
            stop = start + len(fields["row"])
            if self.has_images:
                jpegs = streamed.picture_keys(fields.pop("image"), fields["row"])
                _decode_into(self._pictures[start:stop], streamed, jpegs)
            for name, values in fields.items():
                arrays[name][start:stop] = values
            start = stop
        if rows is not None and start < self.count:
            lacking = sorted({*rows} - {*arrays["row"][:start].tolist()})
            raise ValueError(f"rows must be of the parts that are read, got {lacking[0]}")
        self.targets = arrays["target"][: self.count] if "target" in arrays else None
        self._fields = {name: _tensor(array) for name, array in arrays.items()}
        self._squares = _tensor(self._pictures) if self.has_images else None

    def keys(self) -> tf.data.Dataset:
        return tf.data.Dataset.range(self.count).map(lambda index: {"index": index})

    def fields(self, keys: Fields) -> Fields:
        index = self._places(keys["index"])
        fields = {name: tf.gather(values, index) for name, values in self._fields.items()}
        return {**fields, "image": index} if self.has_images else fields

    def squares(self, index: tf.Tensor) -> tf.Tensor:
        """`fields`' image → uint8 [B, S, S, 3]: the pictures as they are held, in the graph."""
        return tf.gather(self._squares, index)

    def picture_keys(self, images: npt.NDArray, rows: npt.NDArray[np.int64]) -> PictureKeys:
        return images

    def pictures(self, keys: PictureKeys) -> Sequence[Image]:
        return [self._pictures[key] for key in keys]

    def fill(self, keys: PictureKeys, out: npt.NDArray[np.uint8]) -> None:
        np.take(self._pictures, keys, axis=0, out=out, mode="clip")  # another mode copies twice

    def _places(self, index: tf.Tensor) -> tf.Tensor:
        return tf.where(index < 0, tf.cast(self.count, index.dtype), index)


def open_examples(
    portions: Sequence[Portion],
    picture_px: int | None,
    cache: Cache = "auto",
    *,
    memory_share: float = MEMORY_SHARE,
    folder: str | None = None,
    hosts: Hosts = ONE_HOST,
    rows: Collection[int] | None = None,
) -> Examples:
    """The examples of some portions: held as `cache` says, or streamed.

    "auto" holds them in memory if they fit into `memory_share` of it; never on disk, from where a
    picture comes slower than it is decoded once memory has no room for the file. Examples chosen
    by `rows` are always held. Pictures come as squares of `picture_px`, or as they are stored for
    None. Raises ManifestError for an unknown part, RecordError for a shard that is missing or
    damaged (when streamed, damage within a shard is met later: see `naming_damage`).
    """
    where = portions[0].records.folder
    streamed = StreamedExamples(portions, picture_px, hosts)
    sizes = {picture_px or stored_square_px(portion.records) for portion in portions}
    [held_px] = sizes if len(sizes) == 1 else [None]
    can_hold = held_px is not None or not streamed.has_images
    if not can_hold and (cache in ("memory", "disk") or rows is not None):
        raise SettingsError(
            f'{where}: data.cache must be "auto" or "none" for pictures that are not cut to one '
            f"size, got {cache!r}"
        )
    count = streamed.count if rows is None else len(rows)
    is_small = can_hold and (
        _example_bytes(streamed, held_px) * count <= memory_share * memory_bytes()
    )
    if rows is None and (cache == "none" or (cache == "auto" and not is_small)):
        return streamed
    first, *others = portions
    with naming_damage(first.records, first.parts, others):
        return HeldExamples(streamed, held_px, rows=rows, is_on_disk=cache == "disk", folder=folder)


def memory_bytes() -> int:
    """The memory this process may use: the machine's, or less where a container says so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine
    return machine if limit == "max" else min(machine, int(limit))


def _decode_into(
    out: npt.NDArray[np.uint8], streamed: StreamedExamples, jpegs: PictureKeys
) -> None:
    in_chunks(lambda part: streamed.fill(jpegs[part], out[part]), len(jpegs))


def _example_bytes(streamed: StreamedExamples, held_px: int | None) -> int:
    spec = {k: v for k, v in streamed.keys().element_spec.items() if k != "image"}
    if not all(field.shape.is_fully_defined() for field in spec.values()):
        return memory_bytes()
    numbers = sum(field.shape.num_elements() * field.dtype.size for field in spec.values())
    return numbers + (3 * held_px**2 if streamed.has_images and held_px else 0)


def _in_memory(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[start : start + size].view(dtype).reshape(shape)


def _on_disk(shape: tuple[int, ...], folder: str | None) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    where = folder or tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved at once: a disk that is full while it is mapped would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8).reshape(shape)
    except OSError as error:
        raise DataError(
            f"{where}: data.cache_folder must have room for {size:,} bytes of decoded images, got "
            f"{error.strerror}; name another folder, or set data.cache to none"
        ) from error


def _tensor(array: npt.NDArray) -> tf.Tensor:
    """Shares the memory; `convert_to_tensor` would hold every value twice for a while."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
