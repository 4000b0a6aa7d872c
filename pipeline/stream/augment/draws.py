"""Random numbers by key: what an example draws depends on its op's seed and its own key alone.

A hash in place of a generator, so that the draws of a whole batch are one numpy expression, do not
depend on how examples are grouped into batches or threads, and are the same on every machine.
Called by `pipeline.stream.augment.chain`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_STEP = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64: the golden ratio's odd 64 bits


def example_seeds(
    op_seeds: int | Sequence[int], keys: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Seeds of one op or of O, int64 [B] keys (places in the epoch, or rows) → uint64 [(O,) B]."""
    of_ops = np.array(op_seeds, np.int64).astype(np.uint64)[..., None]
    return _mix(_mix(keys.astype(np.uint64) * _STEP + of_ops) + _STEP)


def uniforms(seeds: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.float64]:
    """uint64 of any shape → float64 [..., count] in [0, 1): the first `count` draws of each seed.

    Splitmix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195), of whose 64 bits a
    double takes the upper 53.
    """
    places = np.arange(1, count + 1, dtype=np.uint64) * _STEP
    bits = _mix(seeds[..., None] + places) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A bijection of 64 bits in which each bit of the input reaches every bit of the output."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
