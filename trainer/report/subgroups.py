"""The figures of subgroups: sex, age band, site, source, or any column of the records' table.

A subgroup's thresholds are those of all rows, chosen out of fold: nobody would set one a site.
Called by `trainer.report.__main__`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import DataError, SettingsError
from pipeline.records.manifest import read_rows
from pipeline.settings import nearest
from trainer.intervals import LEVEL, Interval, interval_of
from trainer.report.figures import drawn_figures, unit_of
from trainer.report.findings import Findings

USUAL = ("sex", "age", "site", "source")
SHOWN = {
    "AUC": "AUC",
    "sensitivity": "sensitivity, balanced accuracy",
    "specificity": "specificity, balanced accuracy",
}
# Of patients, with a positive and with a negative. Below, an interval of the AUC spans a third of
# the scale and more (Hanley and McNeil, Radiology 143, 1982: 0.85 ± 0.18 of 10 and 10).
LEAST_GROUPS = 10
_AGES = (0, 20, 40, 60, 80, np.inf)  # years
_MISSING = "(missing)"
_KEYS = ("row", "id", "group", "part", "fold", "target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subgroup:
    """Some of the rows; no figures where they are too few to judge."""

    column: str
    value: str
    rows: int
    positives: int
    figures: dict[str, Interval]


def records_rows(folder: str, findings: Findings) -> pd.DataFrame:
    """The records' table, a line a prediction, in the predictions' order.

    Raises DataError where the records lack an id of the predictions.
    """
    table = read_rows(folder)
    places = pd.Index(table["id"]).get_indexer(pd.Index(findings.predictions.frame["id"]))
    if (places < 0).any():
        raise DataError(
            f"--records {folder}: must hold every id of {findings.name}, got "
            f"{(places < 0).sum()} of {len(places)} rows without; give the records that the run "
            "was trained on"
        )
    return table.iloc[places].reset_index(drop=True)


def choose_columns(asked: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """The column of each name: itself, or the one that has it as a word (`age`: `age_approx`).

    None asked: those of the usual that there are. Raises SettingsError for one that is not there.
    """
    columns = [name for name in rows.columns if name not in _KEYS]
    chosen = []
    for name in asked or USUAL:
        found = [of for of in columns if of == name] or [
            of for of in columns if name in of.lower().split("_")
        ]
        if len(found) == 1:
            chosen += found
        elif asked:
            raise SettingsError(
                f"--subgroups: {name!r} must be one column of the records, got {len(found)}; "
                f"{nearest(name, columns)}"
            )
    return chosen


def find_subgroups(
    findings: Findings, values: pd.Series, *, draws: int, seed: int
) -> list[Subgroup]:
    """Of one column, in order of age or else of name; `(missing)` last."""
    bands, names = _bands(values)
    groups = np.array(findings.groups, object)
    found = []
    for name in names:
        is_in = findings.is_known & (bands == name).to_numpy()
        if not is_in.any():
            continue
        columns = [column.of_rows(is_in) for column in findings.columns]
        within = groups[is_in]
        is_positive = np.any([column.is_positive for column in columns], axis=0)
        figures = {}
        if all(_is_enough(column.target, within) for column in columns):
            drawn = drawn_figures(columns, within.tolist(), draws=draws, seed=seed)
            unit = unit_of(columns, within.tolist())
            figures = {shown: interval_of(drawn[of], LEVEL, unit) for shown, of in SHOWN.items()}
        found.append(
            Subgroup(
                column=str(values.name),
                value=name,
                rows=int(is_in.sum()),
                positives=int(is_positive.sum()),
                figures=figures,
            )
        )
    return found


def _is_enough(target: npt.NDArray[np.float64], groups: npt.NDArray[np.object_]) -> bool:
    return all(len(set(groups[target == side])) >= LEAST_GROUPS for side in (0, 1))


def _bands(values: pd.Series) -> tuple[pd.Series, list[str]]:
    """Each row's band and the bands in order: of 20 years of an age, quarters of other numbers,
    anything else as it is.
    """
    if not pd.api.types.is_numeric_dtype(values):
        text = values.astype(str).replace("", _MISSING)
        return text, [*sorted({*text} - {_MISSING}), _MISSING]
    if values.isna().all():
        return values.astype(object).fillna(_MISSING), [_MISSING]
    if "age" in str(values.name).lower().split("_"):
        edges, gap = list(_AGES), 1
    else:
        edges, gap = [*np.unique(values.quantile([0, 0.25, 0.5, 0.75])), np.inf], 0
    names = [
        f"{low:g}–{high - gap:g}" if np.isfinite(high) else f"{low:g} and more"
        for low, high in itertools.pairwise(edges)
    ]
    cut = pd.cut(values, edges, right=False, labels=names).astype(object)
    return cut.where(values.notna(), _MISSING), [*names, _MISSING]
