"""Where every random number of the stream comes from: a seed folded of what it is for.

The folding is a hash on the host, once an epoch and op, not `stateless_fold_in` in the graph: it
costs nothing an example, and its values do not depend on TensorFlow's version or device. What
differs from example to example is the second half of the stateless seed, which Philox mixes itself.
Each purpose has its word and its function here: training folds in the epoch and counts places; a
test-time view folds in the view and counts rows, to be the same whatever the order.
"""

from __future__ import annotations

import hashlib


def fold_in(*parts: int | str) -> int:
    """Numbers and words, in order → one int64 of a hash of them, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def training_seed(run_seed: int, epoch: int, op: int) -> int:
    """First half of an op's seed; the second is the example's *place in the epoch*.

    The place, not the row: an example that is drawn twice in an epoch differs each time.
    """
    return fold_in("train", run_seed, epoch, op)


def view_seed(run_seed: int, view: int, op: int) -> int:
    """First half of an op's seed in a test-time view; the second is the example's *row*."""
    return fold_in("view", run_seed, view, op)


def shuffle_seed(run_seed: int, epoch: int) -> int:
    """The seed of an epoch's order: not negative, as numpy's generators ask."""
    return abs(fold_in("shuffle", run_seed, epoch))


def draw_seed(run_seed: int, stratum: int, number: int) -> int:
    """The seed of one permutation of a stratum's examples: see `pipeline.stream.sampling`."""
    return abs(fold_in("draw", run_seed, stratum, number))
