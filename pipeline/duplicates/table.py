"""The table of pairs: `id_1,id_2,distance`, for `make_records --drop OUT.csv:id_2`.

Called by `beam_jobs.duplicates_job`.
"""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Sequence

from pipeline.duplicates.pairing import Pairs

COLUMNS = ("id_1", "id_2", "distance")


def pairs_to_csv(pairs: Pairs, ids: Sequence[str], other_ids: Sequence[str]) -> str:
    """The pairs by id, in order of both ids; places are looked up in `ids` and `other_ids`."""
    rows = sorted((ids[one], other_ids[other], bits) for one, other, bits in pairs.tolist())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def keep_first(pairs: Pairs) -> tuple[Pairs, int]:
    """The pairs of one dataset, turned so that dropping every second image keeps one of each set.

    A set is all that pairs connect: A with C, and C with B, where A and B are too far apart. Its
    lowest place is kept: from there on, breadth first, each pair points away. So every other image
    is second somewhere, and the kept one never is. Also gives the number of sets.
    """
    neighbours = collections.defaultdict(list)
    for one, other, _ in pairs.tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    order: dict[int, int] = {}  # place → when it was reached
    sets = 0
    for start in sorted(neighbours):
        if start in order:
            continue
        sets += 1
        order[start] = len(order)
        waiting = collections.deque([start])
        while waiting:
            for place in sorted(neighbours[waiting.popleft()]):
                if place not in order:
                    order[place] = len(order)
                    waiting.append(place)
    turned = pairs.copy()
    for row in turned:
        if order[row[0]] > order[row[1]]:
            row[:2] = row[1::-1]
    return turned, sets
