"""Deals groups (patients, lesions) to parts: no group is split, the parts are as alike as can be.

The planner calls `assign_parts`; `pipeline.dataset.balance` defines what is balanced and counts the
result. The same rows and seed give the same parts on every machine, whatever the order of the rows.

How: groups that are alike in every column are one *kind*, and only how many of each kind a part
holds matters.
1. Whole rounds of a kind are dealt by share: nearly all there is to do for a million single images.
2. What remains is dealt one by one, the weightiest first, each to the part where it costs least.
3. Two parts at a time exchange up to two groups for up to two, the exchange that lowers the cost
   most, until every count is within one of its target or nothing more is found.
4. While that took few steps and left a count off its target, deal again, and keep the best deal.

All dot products are of whole numbers below 2^53, so exact in float64 in whatever order a BLAS adds
them; only then are they divided by shares. Random numbers are PCG64's raw ones, which numpy
promises never to change.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset.balance import (
    GROUP_COLUMNS,
    check_labels,
    count_groups,
    index_groups,
    weigh_columns,
)

# These bound the time by work done, never by the clock. Where every count can meet its target, the
# first width finds it; the rest is for tables where it cannot: few uneven groups, many classes.
_WIDTHS = (64, 128, 256)  # single groups, and again pairs of groups, that each part offers
_TRIES_A_WIDTH = 2000
_STEPS_TO_RESTART = 1000  # groups dealt and exchanges tried: restarts for 100 groups, none for 10^5

_IMAGE_WEIGHT = (
    1000  # of one image in the integer cost, so that rounding other weights costs little
)


def assign_parts(
    groups: ArrayLike, labels: ArrayLike, shares: Sequence[float] | NDArray[Any], seed: int
) -> NDArray[np.int32]:
    """Str [N], bool or int [N, C] of zeros and ones, float [K] > 0 -> int32 [N] in [0, K).

    `groups` names each row's group; `labels` marks its classes (none, one or several; C may be 0);
    `shares` are the relative sizes of the parts: ones for k-fold, and a holdout is one part more
    with a share of its own. Every part gets a group. Lowers `balance.imbalance`; ValueError where
    there are fewer groups than parts.
    """
    group, one_hot = index_groups(groups), check_labels(labels)
    if len(group) != len(one_hot):
        raise ValueError(
            "folds: groups and labels must have one entry a row, "
            f"got {len(group)} and {len(one_hot)}"
        )
    share = np.asarray(shares, np.float64)
    if share.ndim != 1 or not share.size or not (np.isfinite(share) & (share > 0)).all():
        raise ValueError(
            f"folds: shares must be positive numbers, one a part, got {share.tolist()}; "
            "leave out a part that is to stay empty"
        )
    if seed < 0:
        raise ValueError(f"folds: seed must be 0 or more, got {seed}; choose another")
    columns = count_groups(group, one_hot)
    if len(columns) < len(share):
        raise ValueError(
            f"folds: groups must be at least as many as parts, got {len(columns)} groups for "
            f"{len(share)} parts; ask for at most {len(columns)} parts"
        )

    random = np.random.PCG64(seed)
    part_order = np.argsort(random.random_raw(len(share)), kind="stable")
    # Sorted by kind, in seeded order within a kind; the columns left out follow from the others.
    order = np.lexsort([random.random_raw(len(columns)), *columns[:, :-GROUP_COLUMNS].T])
    first = np.flatnonzero((np.diff(columns[order], axis=0, prepend=-1) != 0).any(axis=1))
    held = _deal_kinds(
        columns[order[first]],
        np.diff(first, append=len(order)),
        share[part_order] / math.fsum(share),
        random,
    )
    part_of_group = np.empty(len(columns), np.int32)
    part_of_group[order] = np.repeat(np.tile(part_order, len(first)), held.T.ravel())
    return part_of_group[group]


def _deal_kinds(
    kinds: NDArray[np.int64],
    amounts: NDArray[np.int64],
    share: NDArray[np.float64],
    random: np.random.PCG64,
) -> NDArray[np.int64]:
    """Int [T, D] columns of a kind, int [T] groups of it, float [K] -> int [K, T] groups a part."""
    best, steps, deals = None, 0, 0
    while best is None or (steps < _STEPS_TO_RESTART and not best.is_within_one()):
        deal, deals = _Deal(kinds, amounts, share), deals + 1
        # Each deal in a looser order than the last, or all would end in the same place.
        steps += deal.deal_remainders(deals, random) + deal.exchange_all(random)
        if best is None or deal.cost() < best.cost():
            best = deal
    return best.held[:, :-1]


class _Deal:
    """How many groups of each kind each part holds; T kinds, K parts, D columns.

    The last row of `kinds` is the empty group, of which every part holds plenty: a group exchanged
    for it is moved.
    """

    def __init__(
        self, kinds: NDArray[np.int64], amounts: NDArray[np.int64], share: NDArray[np.float64]
    ) -> None:
        """Int [T, D], int [T], float [K] of sum 1; deals rounds that give every part a group."""
        total = amounts @ kinds
        self.share = share
        self.target = np.outer(share, total)
        self.weight = np.rint(_IMAGE_WEIGHT * total.max() * weigh_columns(total))  # [D]
        self.kinds = np.vstack([kinds, np.zeros_like(kinds[:1])]).astype(np.float64)  # [T + 1, D]
        rounds = np.floor(np.outer(share, amounts) + 1e-9).astype(np.int64)  # a fifth of 5 is 1
        rounds *= rounds.all(axis=0)
        self.remainders = amounts - rounds.sum(axis=0)
        self.held = np.column_stack([rounds, np.full(len(share), 2**40)])  # [K, T + 1]
        self.counts = rounds.astype(np.float64) @ self.kinds[:-1]  # [K, D]

    def is_within_one(self) -> bool:
        """True if no count can come nearer to its target by a whole group or image."""
        return bool((np.abs(self.counts - self.target) < 1 - 1e-6).all())

    def cost(self) -> float:
        """The cost but for a constant: targets cancel. fsum, as 3.12's sum rounds unlike 3.11's."""
        return math.fsum(np.square(self.counts) @ self.weight / self.share)

    def deal_remainders(self, looseness: int, random: np.random.PCG64) -> int:
        """Adds each group where it raises the cost least -> groups dealt.

        A group v raises the cost of a part with counts x and share s by (2 x·w·v + v·w·v) / s, but
        for a constant that is the same for all parts.
        """
        square = np.square(self.kinds) @ self.weight
        queue = np.repeat(np.arange(len(self.remainders)), self.remainders)
        # Weightiest first, but only to a power of two: else all seeds would begin with one deal.
        weight_class = np.frexp(square[queue])[1] // looseness
        queue = queue[np.lexsort([random.random_raw(len(queue)), -weight_class])]
        for left, kind in zip(range(len(queue), 0, -1), queue, strict=True):
            vector = self.kinds[kind]
            rise = (2 * (self.counts @ (self.weight * vector)) + square[kind]) / self.share
            is_empty = self.counts[:, -GROUP_COLUMNS] == 0
            if left <= is_empty.sum():  # the last groups go to the parts that have none
                rise[~is_empty] = np.inf
            part = np.argmin(rise)
            self.held[part, kind] += 1
            self.counts[part] += vector
        return len(queue)

    def exchange_all(self, random: np.random.PCG64) -> int:
        """Sweeps over the pairs of parts, wider after a vain sweep -> exchanges tried."""
        pairs = list(itertools.combinations(range(len(self.share)), 2))
        tries = 0
        for width in _WIDTHS:
            for _ in range(0, _TRIES_A_WIDTH, max(1, len(pairs))):
                if self.is_within_one():
                    return tries
                tries += len(pairs)
                if not sum([self._exchange(a, b, width, random) for a, b in pairs]):
                    break
        return tries

    def _exchange(self, a: int, b: int, width: int, random: np.random.PCG64) -> bool:
        """Makes the best exchange seen between two parts; False if none lowers the cost.

        If a gains v and b loses it, the cost changes, but for a positive factor, by
        v·w·v + 2 v·w·(s_b x_a - s_a x_b) / (s_a + s_b); x are counts, s shares, w weights.
        """
        from_a, from_b = self._draw_bundles(a, width, random), self._draw_bundles(b, width, random)
        loss, gain = self.kinds[from_a].sum(axis=1), self.kinds[from_b].sum(axis=1)
        share_b = self.share[b] / (
            self.share[a] + self.share[b]
        )  # 0.5, exact, where shares are equal

        def slope(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
            in_a, in_b = (vectors @ (self.weight * self.counts[part]) for part in (a, b))
            result: NDArray[np.float64] = 2 * (share_b * in_a - (1 - share_b) * in_b)
            return result

        # v = gain - loss for each pair of bundles, its square multiplied out: one matrix product.
        change = (np.square(loss) @ self.weight - slope(loss))[:, None]
        change = change + (np.square(gain) @ self.weight + slope(gain))
        change -= 2 * (self.weight * loss) @ gain.T
        size = int(min(self.counts[a, -GROUP_COLUMNS], self.counts[b, -GROUP_COLUMNS]))
        if size <= 2:  # neither may be left without a group
            moved = gain[:, -GROUP_COLUMNS] - loss[:, None, -GROUP_COLUMNS]
            change[np.abs(moved) >= size] = 0
        i, j = np.unravel_index(np.argmin(change), change.shape)
        if change[i, j] > -0.5:  # with equal shares a change is a whole number
            return False

        # The same again as long as it pays: one large group may outweigh a thousand small ones.
        vector = gain[j] - loss[i]
        square = np.square(vector) @ self.weight
        times = min(
            round((square - change[i, j]) / (2 * square)),
            int(self.held[a, from_a[i]].min()),
            int(self.held[b, from_b[j]].min()),
            max(1, (size - 1) // 2),  # a bundle is two groups at most
        )
        for giver, taker, bundle in ((a, b, from_a[i]), (b, a, from_b[j])):
            self.held[giver, bundle] -= times
            self.held[taker, bundle] += times
        self.counts[a] += times * vector
        self.counts[b] -= times * vector
        return True

    def _draw_bundles(self, part: int, width: int, random: np.random.PCG64) -> NDArray[np.int64]:
        """-> int [about 2 width, 2], kinds a part may give: nothing, one group, two unlike ones."""
        empty = len(self.kinds) - 1
        here = np.flatnonzero(self.held[part, :-1])
        drawn = here[(random.random_raw(3 * width) % len(here)).astype(np.int64)]
        pairs = drawn[width:].reshape(-1, 2)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        singles = here if len(here) <= width else drawn[:width]
        nothing_or_one = np.append(singles, empty)
        return np.vstack(
            [np.column_stack([nothing_or_one, np.full_like(nothing_or_one, empty)]), pairs]
        )
