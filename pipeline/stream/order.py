"""The order in which the examples of an epoch come: keys, decided by the seed and the epoch.

Whatever the order, nothing is decoded before the keys, so to begin in mid-epoch costs the reading
of what is skipped and no more (of held examples nothing). Called by `pipeline.stream.batches`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.stream.held import HeldExamples, memory_bytes
from pipeline.stream.sampling import Indices, Sampler, Stratum
from pipeline.stream.seeds import shuffle_seed
from pipeline.stream.source import Examples, Fields, StreamedExamples

_READ_AT_ONCE = 256  # examples


class Order(Protocol):
    """The examples of one training."""

    def keys(self, epoch: int) -> tf.data.Dataset:
        """As many keys as there are examples."""


def choose_order(
    examples: Examples,
    strata: Sequence[Stratum],
    *,
    seed: int,
    shuffle_buffer: int,
    memory_share: float,
) -> Order:
    """The order of some examples; see `HeldOrder`, `StreamedOrder` and `SampledStreamOrder`."""
    if isinstance(examples, HeldExamples):
        return HeldOrder(examples, strata, seed)
    assert isinstance(examples, StreamedExamples)
    if not strata:
        return StreamedOrder(examples, seed, shuffle_buffer)
    return SampledStreamOrder(examples, strata, seed, shuffle_buffer, memory_share)


class HeldOrder:
    """A permutation of all examples, or the draws of their strata."""

    def __init__(self, held: HeldExamples, strata: Sequence[Stratum], seed: int) -> None:
        self._count, self._seed = held.count, seed
        self._members: list[Indices] = []
        if strata:
            assert held.targets is not None
            self._members = [
                np.flatnonzero(np.isin(held.targets, stratum.classes)) for stratum in strata
            ]
            self._sampler = _sampler(strata, [len(m) for m in self._members], held.count, seed)

    def keys(self, epoch: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices({"index": self._indices(epoch)})

    def _indices(self, epoch: int) -> Indices:
        """int64 [N] in [0, N): the examples of an epoch."""
        if not self._members:
            return np.random.default_rng(shuffle_seed(self._seed, epoch)).permutation(self._count)
        strata = self._sampler.strata(epoch)
        indices = np.empty(self._count, np.int64)
        for number, members in enumerate(self._members):
            indices[strata == number] = members[self._sampler.draws(number, epoch)]
        return indices


class StreamedOrder:
    """Each example once, as well mixed as a shuffle buffer does."""

    def __init__(self, streamed: StreamedExamples, seed: int, shuffle_buffer: int) -> None:
        self._streamed, self._seed, self._buffer = streamed, seed, shuffle_buffer

    def keys(self, epoch: int) -> tf.data.Dataset:
        return self._streamed.shuffled_keys(shuffle_seed(self._seed, epoch), self._buffer)


class SampledStreamOrder:
    """The draws of the strata: the largest streams, the others stay in memory as they are stored.

    Which one streams follows from the counts, not from the memory there is: the order of a run
    must not change on another machine. To build it reads all shards once. Raises SettingsError
    when the stored images of the rarer strata take more than that share of the memory.
    """

    def __init__(
        self,
        streamed: StreamedExamples,
        strata: Sequence[Stratum],
        seed: int,
        shuffle_buffer: int,
        memory_share: float,
    ) -> None:
        self._streamed, self._buffer = streamed, shuffle_buffer
        self._common = max(range(len(strata)), key=lambda number: strata[number].examples)
        self._common_classes = strata[self._common].classes
        self._rare, sizes = _read_rare(
            streamed, strata, self._common, memory_share * memory_bytes()
        )
        self._sampler = _sampler(strata, sizes, streamed.count, seed)

    def keys(self, epoch: int) -> tf.data.Dataset:
        keys = [
            self._rare_keys(fields, self._sampler.draws(number, epoch))
            if (fields := self._rare.get(number)) is not None
            else self._common_keys(epoch)
            for number in range(len(self._sampler.quotas))
        ]
        strata = tf.data.Dataset.from_tensor_slices(self._sampler.strata(epoch))
        return tf.data.Dataset.choose_from_datasets(keys, strata)

    def _rare_keys(self, fields: Fields, draws: Indices) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(draws).map(
            lambda index: {name: tf.gather(values, index) for name, values in fields.items()}
        )

    def _common_keys(self, epoch: int) -> tf.data.Dataset:
        rounds = [
            self._streamed.shuffled_keys(seed, self._buffer, self._common_classes)
            .skip(places.start)
            .take(places.stop - places.start)
            for seed, places in self._sampler.rounds(self._common, epoch)
        ]
        return functools.reduce(
            tf.data.Dataset.concatenate, rounds or [self._streamed.keys().take(0)]
        )


def _read_rare(
    streamed: StreamedExamples, strata: Sequence[Stratum], common: int, most_bytes: float
) -> tuple[dict[int, Fields], list[int]]:
    """The keys of the strata but the common one, by stratum; and how many examples each has."""
    columns: dict[int, list[dict[str, np.ndarray]]] = {
        number: [] for number in range(len(strata)) if number != common
    }
    sizes, taken = [0] * len(strata), 0
    for fields in streamed.keys().batch(_READ_AT_ONCE).prefetch(1).as_numpy_iterator():
        for number, stratum in enumerate(strata):
            is_of_it = np.isin(fields["target"], stratum.classes)
            sizes[number] += int(is_of_it.sum())
            if number != common:
                chosen = {name: values[is_of_it] for name, values in fields.items()}
                columns[number].append(chosen)
                taken += sum(map(len, chosen.get("image", ())))
        if taken > most_bytes:
            raise SettingsError(
                f"data.memory_share must hold the stored images of the rarer classes, got more "
                f"than {most_bytes:,.0f} bytes of them; raise it, or set data.cache to disk"
            )
    rare = {
        number: {
            name: tf.constant(np.concatenate([part[name] for part in parts])) for name in parts[0]
        }
        for number, parts in columns.items()
    }
    return rare, sizes


def _sampler(strata: Sequence[Stratum], sizes: Sequence[int], draws: int, seed: int) -> Sampler:
    for stratum, size in zip(strata, sizes, strict=True):
        if not size:
            raise SettingsError(
                f"data.sampling must have examples of every class it draws on each host, got none "
                f"of class {stratum.classes[0]} among {draws}"
            )
    return Sampler(sizes, [stratum.share for stratum in strata], draws, seed)
