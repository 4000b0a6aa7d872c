"""Counts what each part of a dataset holds, and says how far that is from the parts' shares.

The columns that are balanced (images of each class, images, groups, groups of each size) and the
cost of an assignment are defined here, once: `assign_parts` lowers that cost; the fold table and
the benchmark print the counts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKETS = ("1-5", "6-10", "11-20", "21-40", "41+")  # groups by their number of images
_BUCKET_ENDS = (5, 10, 20, 40)
GROUP_COLUMNS = 1 + len(BUCKETS)  # the last columns count groups, all before them images

# Where one group is so large that images and groups cannot both be even, images win: a part's score
# is computed from its images of each class; an uneven number of patients widens its error bar.
_GROUP_IMPORTANCE = 0.01


@dataclasses.dataclass(frozen=True)
class PartTable:
    """What each of K parts holds: int64 counts, the part on the first axis."""

    classes: NDArray[np.int64]  # [K, C] images of each class
    images: NDArray[np.int64]  # [K]
    groups: NDArray[np.int64]  # [K]
    buckets: NDArray[np.int64]  # [K, 5] groups of each size, see BUCKETS

    @property
    def columns(self) -> NDArray[np.int64]:
        """int64 [K, C + 7]: classes, images, groups and buckets side by side."""
        return np.column_stack([self.classes, self.images, self.groups, self.buckets])


def count_parts(groups: ArrayLike, labels: ArrayLike, parts: ArrayLike, count: int) -> PartTable:
    """Str [N], bool or int [N, C], int [N] in [0, count) -> the table of any assignment.

    A group that was split counts in each part that has some of it, by the images it has there.
    """
    group, one_hot = index_groups(groups), check_labels(labels)
    part = np.asarray(parts)
    if not len(group) == len(one_hot) == len(part):
        raise ValueError(
            "folds: groups, labels and parts must have one entry a row, "
            f"got {len(group)}, {len(one_hot)} and {len(part)}"
        )
    if part.size and not 0 <= part.min() <= part.max() < count:
        raise ValueError(
            f"folds: parts must be in [0, {count}), got {part.min()} to {part.max()}; "
            "leave out the rows that are in no part"
        )
    pieces, piece = np.unique(group * count + part, return_inverse=True)
    columns = np.zeros([count, one_hot.shape[1] + 1 + GROUP_COLUMNS], np.int64)
    np.add.at(columns, pieces % count, count_groups(piece, one_hot))
    classes, (images, in_all, *buckets) = columns[:, : one_hot.shape[1]], columns[:, -7:].T
    return PartTable(classes, images, in_all, np.column_stack(buckets))


def imbalance(table: PartTable, shares: Sequence[float] | NDArray[Any]) -> float:
    """The cost of an assignment: Pearson's chi-squared of each column, weighted; 0 is perfect.

    cost = sum over k, d of importance[d] * (count[k, d] - target[k, d])^2 / target[k, d]
    target[k, d] = total[d] shares[k] / sum(shares); importance is 1 for images, 0.01 for groups.

    Dividing by the target makes a rare column matter as much as a common one: images dealt at
    random add about K - 1 to each, whatever its total. One melanoma too many (of 39) costs as much
    as 7.5 images too many (of 2,180). A class that follows from the others, as benign images do
    from all and melanomas, adds no more than images cost.
    """
    share = np.asarray(shares, np.float64) / np.sum(shares)
    columns = table.columns
    total = columns.sum(axis=0)
    squares = np.square(columns - np.outer(share, total)) / share[:, None]
    return float((squares @ weigh_columns(total)).sum())


def weigh_columns(total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Int64 [D], each column's total -> float64 [D], importance / total; 0 for an empty column."""
    importance = np.ones(len(total))
    importance[-GROUP_COLUMNS:] = _GROUP_IMPORTANCE
    return importance * (total > 0) / np.maximum(total, 1)


def count_groups(group: NDArray[np.int64], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Int [N] in [0, G), bool or int [N, C] -> int64 [G, C + 7]: the columns of each group."""
    images = np.bincount(group)
    classes = [np.bincount(group, weights=column) for column in labels.T]
    buckets = np.searchsorted(_BUCKET_ENDS, images)[:, None] == np.arange(len(BUCKETS))
    return np.column_stack([*classes, images, np.ones_like(images), buckets]).astype(np.int64)


def index_groups(groups: ArrayLike) -> NDArray[np.int64]:
    """Str [N] -> int64 [N]: each row's place among the sorted unique groups."""
    names = np.asarray(groups)
    if names.ndim != 1:
        raise ValueError(f"folds: groups must be of shape [N], got {list(names.shape)}")
    if not (isinstance(groups, np.ndarray) and names.dtype.kind == "U"):
        names = np.asarray(groups, object)  # a list with a NaN would become text, "nan"
        is_text = np.fromiter((isinstance(name, str) for name in names), bool, len(names))
        if not is_text.all():
            row = int(np.argmin(is_text))
            raise ValueError(
                f"folds: groups must be text, got {type(names[row]).__name__} in row {row}; "
                "a row without a group needs a name of its own"
            )
        names = names.astype(np.str_)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def check_labels(labels: ArrayLike) -> NDArray[Any]:
    """Bool or int [N, C] of zeros and ones, as it came; refuses anything else."""
    one_hot = np.asarray(labels)
    if one_hot.ndim != 2:
        raise ValueError(
            f"folds: labels must be of shape [N, C], got {list(one_hot.shape)}; "
            "turn class indices into one-hot rows"
        )
    allowed = (one_hot == 0) | (one_hot == 1)
    if not allowed.all():
        row, column = np.argwhere(~allowed)[0]
        raise ValueError(
            f"folds: labels must be 0 or 1, got {one_hot[row, column]} in row {row}; "
            "turn class indices into one-hot rows, and unknown ones into a row of zeros"
        )
    return one_hot
