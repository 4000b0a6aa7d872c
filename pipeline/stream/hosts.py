"""Which records each of several hosts reads, when one training runs on all of them.

Without TensorFlow. `pipeline.stream.batches` is told a host's place; a host opens only the shards
that it has a share of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.stream.seeds import fold_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts:
    """One of `count` hosts, each of which feeds its share of every global batch."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"hosts: index must be in [0, {self.count}), got {self.index}")

    def share(self, files: Sequence[tuple[str, int]]) -> tuple[range, ...]:
        """(name, records) of each file → which of its records this host reads.

        The files are laid end to end and cut into `count` stretches, so no two hosts differ by more
        than one record and at most two files of a host are read in part. By hash of their names, so
        that a stretch is of every part and set, not of the first ones alone.
        """
        order = sorted(range(len(files)), key=lambda place: fold_in("host", files[place][0]))
        total = sum(records for _, records in files)
        start, stop = total * self.index // self.count, total * (self.index + 1) // self.count
        shares = [range(0)] * len(files)
        for place in order:
            records = files[place][1]
            shares[place] = range(min(max(start, 0), records), min(max(stop, 0), records))
            start, stop = start - records, stop - records
        return tuple(shares)


ONE_HOST = Hosts()
