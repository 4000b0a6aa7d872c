"""The model card, in Markdown: what a run says of itself, and "not stated" for all else.

After Mitchell et al. (FAccT 2019). Called by `trainer.report.__main__`. Nothing is made up: each
line is of the recipe (of an ensemble, of its members': what they differ in is told of each), the
manifest or the findings.
"""

from __future__ import annotations

import dataclasses
import html
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from pipeline.predictions import run_folder_of
from pipeline.records.manifest import Manifest
from pipeline.settings import load_toml
from trainer.report.findings import HEADLINES, Findings
from trainer.report.subgroups import Subgroup
from trainer.run_folder import CONFIG_NAME

UNKNOWN = "not stated"

_log = logging.getLogger(__name__)


def model_card(
    findings: Findings,
    run: str,
    manifest: Manifest | None,
    subgroups: Mapping[str, Sequence[Subgroup]],
) -> str:
    """Of the run folder or predictions file `run`; `manifest` where its records were given."""
    about = _Recipes.of(findings, run)
    sections = [
        ("", [f"# Model card: {_text(run)}"]),
        ("Model", _model(findings, about)),
        ("Intended use", [UNKNOWN]),
        ("Training", _training(about)),
        ("Data", _data(findings, manifest)),
        ("Predictions", _predictions(findings)),
        ("Figures", _figures(findings)),
        ("Subgroups", _subgroups(subgroups)),
        ("Limits", _limits(findings)),
        ("Ethical considerations", [UNKNOWN]),
    ]
    text = ["\n".join([f"## {title}\n"] * bool(title) + lines) for title, lines in sections]
    return "\n\n".join(text) + "\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recipes:
    """The resolved recipes of a run, or of each member of an ensemble, by its name."""

    found: Mapping[str, Mapping[str, Any]]
    lacking: Sequence[str]  # members whose recipe is not there, or can't be read

    @classmethod
    def of(cls, findings: Findings, run: str) -> _Recipes:
        members = findings.predictions.run.get("members")
        is_file = run.endswith(".parquet")  # it need not be of the folder that it is in
        names = members or ([] if is_file else [run])
        recipes = {name: _recipe_of(name) for name in names}
        found = {name: recipe for name, recipe in recipes.items() if recipe is not None}
        return cls(found=found, lacking=[name for name in members or () if name not in found])

    def lines(self, *, of_model: bool) -> list[str]:
        """A line a setting of the models, or of all else: the one value, or each member's."""
        by_name = {
            name: dict(_entries(_model_table(recipe) if of_model else _others(recipe)))
            for name, recipe in self.found.items()
        }
        keys = dict.fromkeys(key for entries in by_name.values() for key in entries)
        lines = []
        for key in keys:
            values = {name: entries.get(key, UNKNOWN) for name, entries in by_name.items()}
            first, *others = dict.fromkeys(values.values())
            told = "; ".join(f"{value} ({_text(name)})" for name, value in values.items())
            lines.append(f"- {key}: {told if others else first}")
        return lines + [f"- recipe of {_text(name)}: {UNKNOWN}" for name in self.lacking if lines]


def _recipe_of(name: str) -> Mapping[str, Any] | None:
    """That of a run folder or of a predictions file in one; where it can't be read, a warning: the
    predictions are enough for all else.
    """
    try:
        return load_toml(storage.join(run_folder_of(name), CONFIG_NAME))
    except (SettingsError, DataError, OSError) as error:
        why = " ".join(str(error).split())
        _log.warning("%s: the model card does not state its recipe: %s", name, why)
        return None


def _model_table(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a network its table; a baseline's is the name of a linear model."""
    model = recipe.get("model", {})
    return model if isinstance(model, Mapping) else {"model": model}


def _others(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: table for name, table in recipe.items() if name != "model"}


def _model(findings: Findings, recipes: _Recipes) -> list[str]:
    label = findings.predictions.label
    return [
        *(recipes.lines(of_model=True) or [f"- architecture: {UNKNOWN}"]),
        f"- output: {label.kind}, classes {', '.join(map(_text, label.classes))}",
        f"- scored as positive: {', '.join(map(_text, label.positive)) or UNKNOWN}",
        f"- authors, licence, version: {UNKNOWN}",
    ]


def _training(recipes: _Recipes) -> list[str]:
    return recipes.lines(of_model=False) or [UNKNOWN]


def _data(findings: Findings, manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return [f"- records: {_text(findings.predictions.run.get('records', UNKNOWN))}",
                f"- parts, sizes, failures: {UNKNOWN}"]  # fmt: skip
    lines = [f"- records: {_text(manifest.name)}",
             f"- image size: {f'{manifest.size} px' if manifest.size else UNKNOWN}",
             f"- rows that failed: {sum(manifest.failures.values()):,}", ""]  # fmt: skip
    head = ["part", "images", "groups", *map(_text, manifest.label.classes)]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for part in manifest.parts:
        counts = [part.examples, part.groups]
        counts += [part.classes.get(name, 0) for name in manifest.label.classes]
        lines.append(f"| {_text(part.part)} | " + " | ".join(f"{n:,}" for n in counts) + " |")
    return lines


def _predictions(findings: Findings) -> list[str]:
    about = dict(findings.predictions.run)
    if "folds" in about:
        about.pop("fold", None)  # that of the first of them
    return _settings(about) or [UNKNOWN]


def _figures(findings: Findings) -> list[str]:
    lines = [
        f"All {findings.is_known.sum():,} rows with a target, pooled; 95 % intervals by "
        f"{findings.unit}. Thresholds and temperatures were chosen out of fold.",
        "",
        "| figure | value |",
        "| --- | --- |",
    ]
    return lines + [
        f"| {name} | {findings.interval(of).text()} |" for name, of in HEADLINES.items()
    ]


def _subgroups(subgroups: Mapping[str, Sequence[Subgroup]]) -> list[str]:
    if not subgroups:
        return [UNKNOWN]
    lines = ["| column | value | rows | positive | AUC |", "| --- | --- | --- | --- | --- |"]
    for column, found in subgroups.items():
        for of in found:
            auc = of.figures["AUC"].text() if of.figures else "too few to judge"
            lines.append(
                f"| {_text(column)} | {_text(of.value)} | {of.rows:,} | {of.positives:,} | {auc} |"
            )
    return lines


def _limits(findings: Findings) -> list[str]:
    lines = [
        "- The intervals say what other groups would do to these predictions, not what another "
        "seed of the training or another clinic would."
    ]
    if findings.selected_on:
        parts = ", ".join(map(_text, findings.selected_on))
        lines.append(
            f"- Selected on {parts}: these rows chose weights or rates; the figures are too high."
        )
    if findings.left_out:
        names = ", ".join(map(_text, findings.left_out))
        lines.append(f"- Too few rows to judge: {names}.")
    return [*lines, f"- others: {UNKNOWN}"]


def _settings(table: Mapping[str, Any]) -> list[str]:
    """A line a setting."""
    return [f"- {key}: {text}" for key, text in _entries(table)]


def _entries(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, value) of each setting as text, those of tables within under dotted names; of a list of
    tables one each, numbered where there are several.
    """
    for name, value in table.items():
        key = f"{prefix}{_text(name)}"
        items = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, Mapping):
            yield from _entries(value, f"{key}.")
        elif items and all(isinstance(item, Mapping) for item in items):
            for place, item in enumerate(items):
                text = ", ".join(f"{of} = {at}" for of, at in item.items())
                yield f"{key}.{place}" if len(items) > 1 else key, _text(text)
        else:
            yield key, ", ".join(map(_text, items)) or "none"


def _text(value: object) -> str:
    """As Markdown shows it, whatever it holds: no markup, no line of its own, no table's end."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    for sign in "\\`*_{}[]|#":
        text = text.replace(sign, f"\\{sign}")
    return text
