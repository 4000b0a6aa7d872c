"""The dataset spec as flags: each flag is one key of the spec, and overrides the TOML file's."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from pipeline.command_line import Parser, names
from pipeline.records.label import LabelKind
from pipeline.settings import merge


def _label(text: str) -> str | tuple[str, ...]:
    """One column, or several parted by commas (multilabel)."""
    columns = names(text)
    return columns[0] if len(columns) == 1 else columns


def _keep(text: str) -> str | tuple[str, ...]:
    return "all" if text == "all" else names(text)


# flag: (key of the spec, help, argparse's own settings)
FLAGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "name": ("name", "the dataset's name, which begins every shard's (default: dataset)", {}),
    "csv": ("table.csv", "the table: CSV in UTF-8 with a header, or Parquet", {}),
    "from_folders": ("folders.root", "in place of a table: a tree with a folder a class", {}),
    "parts": ("folders.parts", "first-level folders that are parts (train,val)", {"type": names}),
    "id": ("table.id", "the column that names an example, never twice", {}),
    "group": ("table.group", "the column never split across folds, such as the patient", {}),
    "weight": ("table.weight", "the column of how much a row counts in training", {}),
    "keep": ("table.keep", "further columns for the records, or `all`", {"type": _keep}),
    "missing": ("table.missing", "texts that count as missing", {"type": names}),
    "image_path": ("images.path", "such as '{image_name}.jpg' (default: the id and .jpg)", {}),
    "values": (
        "values.columns", "a vector of floats: columns, or FIRST:LAST", {"type": names},
    ),
    "values_npy": ("values.npy", "a vector of floats: an array [rows, D] of numpy's", {}),
    "label": ("label.column", "the label's column, or several for multilabel", {"type": _label}),
    "label_kind": (
        "label.kind", "default: as the column reads", {"choices": get_args(LabelKind)},
    ),
    "classes": ("label.classes", "the classes in order (default: sorted)", {"type": names}),
    "positive": ("label.positive", "the scored classes", {"type": names}),
    "categorical": ("metadata.categorical", "metadata columns of text", {"type": names}),
    "numeric": ("metadata.numeric", "metadata columns of numbers", {"type": names}),
    "derived": (
        "metadata.derived", "numbers to compute: images_per_group", {"type": names},
    ),
    "folds": ("folds.count", "how many folds (default 5)", {"type": int}),
    "seed": ("folds.seed", "of folds and order (default 42)", {"type": int}),
    "holdout": ("folds.holdout", "the share of rows kept out of all folds", {"type": float}),
    "fold_column": ("folds.column", "a column that names each row's fold or part", {}),
    "drop": ("folds.drop", "FILE[:COLUMN], a table of ids to leave out", {}),
    "join_groups": (
        "folds.join_groups", "a table of id_1,id_2: pairs to keep in one part", {},
    ),
}  # fmt: skip


def add_spec_flags(parser: Parser) -> None:
    """Adds `--spec` and a flag for each key of `DatasetSpec`."""
    group = parser.add_argument_group("the dataset (a TOML spec, flags, or flags over a spec)")
    group.add_argument("--spec", help="a TOML file as in datasets/")
    for flag, (_, text, settings) in FLAGS.items():
        group.add_argument(f"--{flag}", help=text, **settings)


def spec_tables(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as nested tables for `read_spec`."""
    tables: dict[str, Any] = {} if flags.spec else {"name": "dataset"}
    for flag, (key, _, _) in FLAGS.items():
        value: Any = getattr(flags, flag)
        if value is None:
            continue
        for name in reversed(key.split(".")):
            value = {name: value}
        tables = merge(tables, value)
    return tables
