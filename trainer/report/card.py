"""The model card, in Markdown: what a run says of itself, and "not stated" for all else.

After Mitchell et al. (FAccT 2019). Called by `trainer.report.__main__`. Nothing is made up: each
line is of the recipe, the manifest or the findings.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.records.manifest import Manifest
from pipeline.settings import load_toml
from trainer.report.findings import HEADLINES, Findings
from trainer.report.subgroups import Subgroup
from trainer.run_folder import CONFIG_NAME

UNKNOWN = "not stated"


def model_card(
    findings: Findings,
    run: str,
    manifest: Manifest | None,
    subgroups: Mapping[str, Sequence[Subgroup]],
) -> str:
    """Of the run folder or predictions file `run`; `manifest` where its records were given."""
    recipe = _recipe(run)
    sections = [
        ("", [f"# Model card: {_text(run)}"]),
        ("Model", _model(findings, recipe)),
        ("Intended use", [UNKNOWN]),
        ("Training", _training(recipe)),
        ("Data", _data(findings, manifest)),
        ("Predictions", _predictions(findings)),
        ("Figures", _figures(findings)),
        ("Subgroups", _subgroups(subgroups)),
        ("Limits", _limits(findings)),
        ("Ethical considerations", [UNKNOWN]),
    ]
    text = ["\n".join([f"## {title}\n"] * bool(title) + lines) for title, lines in sections]
    return "\n\n".join(text) + "\n"


def _recipe(run: str) -> Mapping[str, Any]:
    """The resolved recipe; empty of a predictions file alone."""
    path = storage.join(run, CONFIG_NAME)
    return load_toml(path) if not run.endswith(".parquet") and storage.exists(path) else {}


def _model(findings: Findings, recipe: Mapping[str, Any]) -> list[str]:
    label = findings.predictions.label
    return [
        *(_settings(recipe.get("model", {})) or [f"- architecture: {UNKNOWN}"]),
        f"- output: {label.kind}, classes {', '.join(map(_text, label.classes))}",
        f"- scored as positive: {', '.join(map(_text, label.positive)) or UNKNOWN}",
        f"- authors, licence, version: {UNKNOWN}",
    ]


def _training(recipe: Mapping[str, Any]) -> list[str]:
    others = {name: table for name, table in recipe.items() if name != "model"}
    return _settings(others) or [UNKNOWN]


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


def _settings(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A line a setting, those of tables within under dotted names; a line a table of a list."""
    lines = []
    for name, value in table.items():
        key = f"{prefix}{_text(name)}"
        items = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, Mapping):
            lines += _settings(value, f"{key}.")
        elif items and all(isinstance(item, Mapping) for item in items):
            pairs = (", ".join(f"{of} = {at}" for of, at in item.items()) for item in items)
            lines += [f"- {key}: {_text(text)}" for text in pairs]
        else:
            lines.append(f"- {key}: {', '.join(map(_text, items)) or 'none'}")
    return lines


def _text(value: object) -> str:
    """As Markdown shows it, whatever it holds: no markup, no line of its own, no table's end."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    for sign in "\\`*_{}[]|#":
        text = text.replace(sign, f"\\{sign}")
    return text
