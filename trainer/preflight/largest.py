"""The largest batch a core can hold, in as few compilations as may be.

Memory grows almost linearly with the batch, so each guess is where the line through what is known
meets the limit; bisection takes over where that line does not narrow the bracket.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from trainer.preflight.compiler import Verdict

# A TPU's registers hold eight rows: a batch between two multiples of 8 takes the room of the upper.
_SMALL = (1, 2, 4)
_MULTIPLE = 8
# Beyond, a sixteenth of a batch is near enough: a compilation takes minutes.
_FINE, _PARTS = 128, 16


def batches_up_to(limit: int) -> tuple[int, ...]:
    """1, 2, 4, then multiples of 8, from 256 on of a sixteenth of the power of 2 below; those below
    `limit`.
    """
    sizes = [*_SMALL, *range(_MULTIPLE, 2 * _FINE, _MULTIPLE)]
    while sizes[-1] < limit:
        power = 2 ** sizes[-1].bit_length()
        sizes += range(power, 2 * power, power // _PARTS)
    return tuple(size for size in sizes if size < limit)


def largest_batch(
    verdict_of: Callable[[int], Verdict], known: dict[int, Verdict], *, limit_bytes: float
) -> int | None:
    """The largest batch that fits: of those that are known, and of `batches_up_to` the least that
    is known not to. None when not one example does.

    `known` holds verdicts by batch, a refusal among them, and is added to.
    """
    sizes = batches_up_to(min(batch for batch, verdict in known.items() if not _fits(verdict)))
    low = max((bisect.bisect_right(sizes, b) for b, v in known.items() if _fits(v)), default=0)
    high = len(sizes)
    is_guess = True
    while low < high:  # sizes[:low] fit, sizes[high:] do not
        middle = (low + high) // 2
        place = _guess(sizes, known, limit_bytes, low, high) if is_guess else middle
        batch = sizes[middle if place is None else place]
        known[batch] = verdict = verdict_of(batch)
        before = high - low
        if _fits(verdict):
            low = bisect.bisect_right(sizes, batch)
        else:
            high = bisect.bisect_left(sizes, batch)
        is_guess = high - low <= before // 2 or not is_guess
    return max((batch for batch, verdict in known.items() if _fits(verdict)), default=None)


def _guess(
    sizes: Sequence[int], known: dict[int, Verdict], limit_bytes: float, low: int, high: int
) -> int | None:
    """The place in [low, high) of the batch where the line of the two nearest meets the limit."""
    told = {b: v.memory_bytes for b, v in known.items() if v.memory_bytes}
    below = max((b for b in told if _fits(known[b])), default=0)
    above = min((b for b in told if not _fits(known[b])), default=None)
    if above is None or told[above] <= (base := told.get(below, 0.0)):
        return None
    batch = below + (above - below) * (limit_bytes - base) / (told[above] - base)
    return min(max(bisect.bisect_right(sizes, batch) - 1, low), high - 1)


def _fits(verdict: Verdict) -> bool:
    return verdict.refusal is None
