"""What is known of groups beyond their names: their sizes as metadata, and which belong together.

Called by `pipeline.dataset.table`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.dataset.labels import TableError
from pipeline.dataset.sources.text import read_text
from pipeline.dataset.spec import DERIVED_COLUMNS
from pipeline.settings import nearest

_PAIR = ("id_1", "id_2")


def images_per_group(groups: np.ndarray) -> np.ndarray:
    """Object [N] → float32 [N]: images of the row's group in the whole table, after `folds.drop`.

    No leak: groups are never split, so no other part has a share in the count, and it is known
    before any label. It does tell how a patient was examined: where suspicion leads to more images
    it predicts, and the model must meet patients who are examined in the same way.
    """
    codes, _ = pd.factorize(groups)
    return np.bincount(codes)[codes].astype(np.float32)


DERIVED: dict[str, Callable[[np.ndarray], np.ndarray]] = dict(
    zip(DERIVED_COLUMNS, (images_per_group,), strict=True)
)


def join_groups(path: str, ids: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, str]:
    """Object [N] ids and groups → object [N], equal where rows must stay in one part; and a note.

    Groups are joined whole, over any number of links, and go by the first of their names. `path` is
    a table with the columns `id_1` and `id_2`, as `beam_jobs.find_duplicates` writes it; pairs with
    an id that is not among `ids` (dropped, or of another dataset) join nothing.
    """
    pairs = read_text(path, allow_empty=True)
    for column in _PAIR:
        if column not in pairs.columns:
            raise TableError(f"{path}: no column {column!r}; {nearest(column, pairs.columns)}")
    rows = pd.Index(ids)
    ends = np.stack([rows.get_indexer(pd.Index(pairs[column])) for column in _PAIR])
    linked = groups[ends[:, (ends >= 0).all(axis=0)]]
    first = _first_of_joined(linked.T.tolist())
    joined = pd.Series(groups, dtype=object).map(lambda group: first.get(group, group))
    note = (
        f"{linked.shape[1]:,} of {len(pairs):,} pairs in {path} join {len(first):,} groups into "
        f"{len(set(first.values())):,}, which are dealt whole"
    )
    return joined.to_numpy(object), note


def _first_of_joined(links: list[list[str]]) -> dict[str, str]:
    """Each linked name → the first name of all that it is linked to: union-find, halving paths."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one, other in links:
        first, second = sorted((find(one), find(other)))
        parent[second] = first
    return {name: find(name) for name in parent}
