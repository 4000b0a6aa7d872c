"""Which parts train and which validate: one `FoldParts` a fold of the run.

A run's folds are the records', numbers kept. Records cut into many folds also serve runs of fewer:
record fold r then belongs to the run's fold `r mod count`, the same in every run of that count.
Parts outside folds (`holdout`, `test`, `unlabelled`) never train.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from pipeline.errors import SettingsError
from pipeline.records.manifest import Manifest
from trainer.config import DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldParts:
    """One fold of a run: `RUN/fold{number}`, and `fold` in its predictions (-1 for given parts)."""

    number: int
    fold: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


def fold_parts(manifest: Manifest, data: DataConfig) -> tuple[FoldParts, ...]:
    """Every fold of a run of these records, in order.

    Raises:
      SettingsError: there are no folds and no parts named, or more folds asked than there are.
    """
    where = f"records {manifest.name!r}"
    if data.train:
        for part in (*data.train, *data.validation):
            if part not in manifest.part_names:
                known = ", ".join(manifest.part_names)
                raise SettingsError(f"{where}: part must be one of {known}, got {part!r}")
        return (FoldParts(number=0, fold=-1, train=data.train, validation=data.validation),)
    record_folds = manifest.record_folds
    count = data.folds or len(record_folds)
    if len(record_folds) < 2:
        raise SettingsError(
            f"{where}: there must be 2 folds or more, got {len(record_folds)}; "
            'name given parts: [data] train = ["train"], validation = ["val"]'
        )
    if count > len(record_folds):
        raise SettingsError(
            f"{where}: data.folds must be {len(record_folds)} or less (the records' folds), "
            f"got {count}"
        )
    # Folds that were given may leave numbers out: mod count, two of 0, 1 and 3 would become one.
    is_merged = count < len(record_folds)
    number_of = {
        part.part: part.fold % count if is_merged else part.fold
        for part in manifest.parts
        if part.fold >= 0
    }
    folds = tuple(
        FoldParts(
            number=number,
            fold=number,
            train=tuple(part for part, fold in number_of.items() if fold != number),
            validation=tuple(part for part, fold in number_of.items() if fold == number),
        )
        for number in (range(count) if is_merged else record_folds)
    )
    for fold in folds:
        if is_merged and not manifest.examples_in(fold.validation):
            raise SettingsError(
                f"{where}: data.folds must leave no fold empty, got {count}: fold {fold.number} "
                f"holds no example of the records' folds {', '.join(map(str, record_folds))}, each "
                f"taken mod {count}; leave data.folds out to keep them as they are"
            )
    return folds


def choose_folds(folds: tuple[FoldParts, ...], text: str) -> tuple[FoldParts, ...]:
    """The folds that `--folds` names: `all`, or numbers such as `0,1`."""
    if text == "all":
        return folds
    by_number = {str(fold.number): fold for fold in folds}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in by_number:
            known = ", ".join(by_number)
            raise SettingsError(f"--folds must be all, or among {known}, got {name!r}")
    return tuple(by_number[name] for name in sorted(set(names), key=int))


def check_examples(
    manifest: Manifest, folds: Collection[FoldParts], batch_size: int, accumulate_steps: int = 1
) -> None:
    """Raises SettingsError for a fold that cannot fill a training step or validates on nothing."""
    for fold in folds:
        examples = manifest.examples_in(fold.train)
        if batch_size > examples:
            raise SettingsError(
                f"fold {fold.number}: train.batch_size must be {examples} or less "
                f"(the training examples), got {batch_size}"
            )
        if batch_size * accumulate_steps > examples:
            raise SettingsError(
                f"fold {fold.number}: optimizer.accumulate_steps must be {examples // batch_size} "
                f"or less (the batches of {examples} training examples), got {accumulate_steps}"
            )
        if not manifest.examples_in(fold.validation):
            raise SettingsError(
                f"fold {fold.number}: validation parts must hold an example, got none in "
                f"{', '.join(fold.validation)}"
            )


def has_auc(manifest: Manifest, parts: Collection[str]) -> bool:
    """False when the rows of some parts are of one class, so that nothing ranks above anything."""
    label = manifest.label
    counts = {
        name: sum(manifest.part(part).classes[name] for part in parts) for name in label.classes
    }
    if label.kind == "multilabel":
        examples = manifest.examples_in(parts)
        return any(0 < count < examples for count in counts.values())
    if label.kind == "multiclass" and label.positive:
        positives = sum(counts[name] for name in label.positive)
        return 0 < positives < sum(counts.values())
    return sum(count > 0 for count in counts.values()) > 1


def check_choosable(manifest: Manifest, folds: Collection[FoldParts]) -> None:
    """Raises SettingsError for a fold whose validation rows cannot say which weights are best."""
    for fold in folds:
        if not has_auc(manifest, fold.validation):
            raise SettingsError(
                f"fold {fold.number}: validation parts must hold two classes for train.keep = "
                f"'best', got one in {', '.join(fold.validation)}; set train.keep = 'last'"
            )
