"""From a table to examples: rows in order of id, labels encoded, every column typed.

`read_table` is the only reader of a user's table; `pipeline.dataset.sources` knows its formats.
Whatever is wrong with it is one `TableError` that names the file, the column, the line and the
mend, before any image is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.dataset.groups import DERIVED, join_groups
from pipeline.dataset.labels import TableError, encode_labels
from pipeline.dataset.sources.folders import list_folders
from pipeline.dataset.sources.text import read_text
from pipeline.dataset.sources.values import RowValues, read_with_values
from pipeline.dataset.spec import DatasetSpec, template_columns
from pipeline.records.features import Dtype, Feature, Role, stored_name, table_column
from pipeline.records.label import LabelInfo
from pipeline.settings import nearest

# An absolute path, a step up, an empty name; a backslash is a slash elsewhere.
_LEAVES_ROOT = r"^/|//|(?:^|/)\.\.(?:/|$)|\\|\x00"

NO_LABEL = "no label is named: all rows are one part, unlabelled, with target -1"  # a note


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A user's table, understood. All arrays and columns are in order of id."""

    ids: np.ndarray  # object [N], text
    groups: np.ndarray  # object [N], text; the id itself where there is no group column
    units: np.ndarray  # object [N], text: what is in one part whole; the group, unless joined
    paths: np.ndarray  # object [N], text, relative to the images' root; "" without images
    vectors: RowValues | None  # where each row's vector of floats lies
    target: np.ndarray  # int64 [N], or float32 [N, C] for multilabel; -1 unknown
    label: LabelInfo
    columns: pd.DataFrame  # one column a feature of `features`, under the feature's name
    features: tuple[Feature, ...]  # roles id, group, category, number, extra
    given: pd.Series | None  # text [N] of `folds.column`; its index counts the table's rows from 0
    dropped: int  # rows left out by `folds.drop`, or by -1 in `folds.column`
    notes: tuple[str, ...]  # what a user should know of how the table was read

    def __len__(self) -> int:
        return len(self.ids)


def read_table(spec: DatasetSpec) -> Table:
    """Reads and checks the table of a spec.

    Raises:
      TableError: a column is missing, an id repeats, a label or number can't be read, a path
        leaves the images' root, or nothing is left.
    """
    where = spec.table.csv
    frame, vectors, notes = _read_source(spec)
    _check_columns(frame, spec, where)
    listed = _listed_ids(spec)
    if listed is not None:
        found = int(listed.isin(frame[spec.table.id]).sum())
        notes = (*notes, f"{found:,} of the {len(listed):,} ids of {spec.folds.drop} are there")
    frame, dropped = _drop(frame, listed, spec, where)
    _check_ids(frame[spec.table.id], where)
    frame = frame.sort_values(spec.table.id, kind="stable")
    paths = _image_paths(frame, spec, where)
    ids = frame[spec.table.id].to_numpy(object)
    frame = frame.mask(frame.isin(spec.table.missing), "")
    target, label = encode_labels(frame, spec.label, where)
    groups = ids
    if spec.table.group is not None:
        groups = frame[spec.table.group].to_numpy(object)
        _check_groups(frame[spec.table.group], where)
    columns, features = _typed_columns(frame, groups, spec, where)
    units = groups
    if spec.folds.join_groups is not None:
        units, note = join_groups(spec.folds.join_groups, ids, groups)
        notes = (*notes, note)
    if label.kind == "none" and spec.folds.column is None:
        notes = (*notes, NO_LABEL)
    unknown = int((target == -1).sum())
    if label.kind in ("binary", "multiclass") and unknown:
        has = "row has" if unknown == 1 else "rows have"
        notes = (*notes, f"{unknown:,} {has} no label: target -1, which training passes over")
    given = frame[spec.folds.column] if spec.folds.column else None
    if vectors is not None:
        vectors = vectors.of_rows(frame.index.to_numpy())
    return Table(
        ids=ids, groups=groups, units=units, paths=paths, vectors=vectors, target=target,
        label=label, columns=columns, features=features, given=given, dropped=dropped, notes=notes,
    )  # fmt: skip


def _read_source(spec: DatasetSpec) -> tuple[pd.DataFrame, RowValues | None, tuple[str, ...]]:
    """Every cell as its own text, by number of row; where the rows' vectors lie; notes."""
    if spec.folders is not None:
        frame, notes = list_folders(spec.folders)
        return frame, None, notes
    values = spec.values  # noqa: PD011 (a spec's)
    if values is not None:
        return *read_with_values(spec.table, values), ()
    return read_text(spec.table.csv), None, ()


def _check_columns(frame: pd.DataFrame, spec: DatasetSpec, where: str) -> None:
    label = spec.label.column
    named: dict[str, Iterable[str]] = {
        "table.id": [spec.table.id],
        "table.group": [spec.table.group] if spec.table.group else [],
        "table.weight": [spec.table.weight] if spec.table.weight else [],
        "table.keep": () if spec.table.keep == "all" else spec.table.keep,
        "images.path": template_columns(spec.image_path),
        "label.column": [label] if isinstance(label, str) else label or (),
        "metadata.categorical": spec.metadata.categorical,
        "metadata.numeric": spec.metadata.numeric,
        "folds.column": [spec.folds.column] if spec.folds.column else [],
    }
    for setting, columns in named.items():
        for column in columns:
            if column not in frame.columns:
                raise TableError(
                    f"{where}: no column {column!r} (named by {setting}); "
                    f"{nearest(column, frame.columns)}"
                )
    for column in (*spec.metadata.categorical, *spec.metadata.numeric):
        if column in named["label.column"]:
            raise TableError(
                f"{where}: column {column!r} must not be the label and metadata at once, for the "
                "model would be told the answer; take it out of the metadata"
            )


def _drop(
    frame: pd.DataFrame, listed: pd.Series | None, spec: DatasetSpec, where: str
) -> tuple[pd.DataFrame, int]:
    """Leaves out what `folds.column` marks with -1, and the ids that `folds.drop` has listed."""
    kept = frame
    if spec.folds.column is not None:
        kept = kept[~kept[spec.folds.column].isin(["-1", "-1.0"])]
    if listed is not None:
        kept = kept[~kept[spec.table.id].isin(listed)]
    if kept.empty:
        raise TableError(f"{where}: rows must be left after folds.drop and folds.column, got none")
    return kept, len(frame) - len(kept)


def _listed_ids(spec: DatasetSpec) -> pd.Series | None:
    """The ids in FILE or FILE:COLUMN, each once; without a column, in the one named like ours."""
    if spec.folds.drop is None:
        return None
    path, column = spec.folds.drop, spec.table.id
    if ":" in path.removeprefix("gs:") and not storage.exists(path):
        path, _, column = path.rpartition(":")
    listed = read_text(path, allow_empty=True)
    if column not in listed.columns:
        raise TableError(f"{path}: no column {column!r}; {nearest(column, listed.columns)}")
    return listed[column].drop_duplicates()


def _check_ids(ids: pd.Series, where: str) -> None:
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise TableError(
            f"{where}: column {ids.name!r} must not repeat, got {repeated.iloc[0]!r} again "
            f"in line {int(repeated.index[0]) + 2} ({len(repeated)} such rows)"
        )
    _refuse_empty(ids, "every example needs an id", where)


def _check_groups(groups: pd.Series, where: str) -> None:
    """A missing group would put strangers into one; better to be asked than to guess."""
    _refuse_empty(groups, "fill it in, or leave the group column out", where)


def _refuse_empty(column: pd.Series, mend: str, where: str) -> None:
    empty = column[column == ""]
    if len(empty):
        raise TableError(
            f"{where}: column {column.name!r} must not be empty, got {len(empty)} such rows, "
            f"the first in line {int(empty.index[0]) + 2}; {mend}"
        )


def _image_paths(frame: pd.DataFrame, spec: DatasetSpec, where: str) -> np.ndarray:
    """object [N]: the template filled in, every path inside the images' root."""
    paths = pd.Series("", index=frame.index, dtype="str")
    for text, column in _split_template(spec.image_path):
        paths = paths + text + (frame[column] if column else "")
    leaving = paths[paths.str.contains(_LEAVES_ROOT)]
    if len(leaving):
        raise TableError(
            f"{where}: images.path must stay inside the images' root, got {leaving.iloc[0]!r} "
            f"in line {int(leaving.index[0]) + 2}"
        )
    return paths.to_numpy(object)


def _split_template(template: str) -> Sequence[tuple[str, str | None]]:
    """`a{b}c` as [("a", "b"), ("c", None)]."""
    pieces: list[tuple[str, str | None]] = []
    rest = template
    for column in template_columns(template):
        text, _, rest = rest.partition(f"{{{column}}}")
        pieces.append((text, column))
    return [*pieces, (rest, None)]


def _typed_columns(
    frame: pd.DataFrame, groups: np.ndarray, spec: DatasetSpec, where: str
) -> tuple[pd.DataFrame, tuple[Feature, ...]]:
    """The feature columns: each has one role, the first of id, group, weight, category, number."""
    label = spec.label.column
    roles: dict[str, Role] = {spec.table.id: "id"}
    if spec.table.group:
        roles.setdefault(spec.table.group, "group")
    if spec.table.weight:
        roles[spec.table.weight] = "weight"
    for column in spec.metadata.categorical:
        roles.setdefault(column, "category")
    for column in spec.metadata.numeric:
        roles.setdefault(column, "number")
    for column in frame.columns if spec.table.keep == "all" else spec.table.keep:
        if column not in ([label] if isinstance(label, str) else label or ()):
            roles.setdefault(column, "extra")
    columns: dict[str, pd.Series] = {}
    taken: set[str] = set()  # columns of the plan
    features = []
    for column, role in roles.items():
        typed = _typed(frame[column], role, where)
        feature = Feature(name=stored_name(column), dtype=_dtype_of(typed), role=role)
        for name in {feature.name, table_column(feature.name)} & {*columns, *taken}:
            raise TableError(f"{where}: columns {column!r} and {name!r} clash; rename one")
        if role not in ("id", "group"):  # which the plan has under these names
            taken.add(table_column(feature.name))
        columns[feature.name] = typed
        features.append(feature)
    for name in spec.metadata.derived:
        if name in columns:
            raise TableError(f"{where}: column {name!r} is also named by metadata.derived; rename")
        columns[name] = pd.Series(DERIVED[name](groups), index=frame.index)
        features.append(Feature(name=name, dtype="float32", role="number"))
    return pd.DataFrame(columns), tuple(sorted(features, key=lambda f: f.name))


def _typed(column: pd.Series, role: Role, where: str) -> pd.Series:
    """Text, float32 or int64: numbers by role, extras by what all their values are."""
    if role in ("id", "group", "category"):
        return column.astype(object)
    numbers = pd.to_numeric(column.where(column != ""), errors="coerce")
    numbers = numbers.where(numbers.abs() <= np.finfo(np.float32).max)
    wrong = column[numbers.isna() & (column != "")]
    if role == "weight":
        wrong = column[(column != "") & ~(numbers >= 0)]
    if role in ("number", "weight"):
        if len(wrong):
            rule = "a number" if role == "number" else "0 or more,"
            raise TableError(
                f"{where}: column {column.name!r} must be {rule} or missing, "
                f"got {wrong.iloc[0]!r} in line {int(wrong.index[0]) + 2} ({len(wrong)} such rows)"
            )
        return numbers.astype(np.float32)
    if len(wrong) or numbers.isna().all():
        return column.astype(object)
    if column.str.fullmatch(r"-?(0|[1-9]\d{0,17})").all():
        return column.astype(np.int64)
    if column.str.match(r"-?0\d").any():  # 007 is a code, and not 7
        return column.astype(object)
    exact = numbers.astype(np.float32).astype(np.float64).eq(numbers) | numbers.isna()
    return numbers.astype(np.float32) if exact.all() else column.astype(object)


def _dtype_of(column: pd.Series) -> Dtype:
    by_name: dict[str, Dtype] = {"int64": "int64", "float32": "float32"}
    return by_name.get(str(column.dtype), "string")
