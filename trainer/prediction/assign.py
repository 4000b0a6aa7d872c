"""Which fold of a run predicts which parts: never one that its training has seen.

Called by `trainer.prediction.run` before TensorFlow starts: whatever does not fit is told at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from pipeline.errors import DataError, SettingsError
from pipeline.records.manifest import Manifest
from pipeline.settings import nearest
from trainer.folds import FoldParts, choose_folds, fold_parts
from trainer.trained_run import TrainedRun

OUT_OF_FOLD = "oof"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """What one fold predicts."""

    number: int  # of `RUN/foldK`
    fold: int  # of its rows in the predictions; -1 where several folds predict them
    parts: tuple[str, ...]


def assign_parts(
    run: TrainedRun, manifest: Manifest, part: str, folds: str
) -> tuple[Assignment, ...]:
    """The folds (of those that are chosen) that predict a part of some records, or `oof`.

    Of records of the run's own plan: the folds that have not trained on it. Of other records, whose
    rows the run cannot have been told apart from: all that are complete.
    Of `all` folds those that are not complete are left out, and it is said.

    Raises:
      SettingsError: there is no such part or fold, or all folds have trained on it.
      DataError: a fold that was named, or each that should predict, is not complete; or the part is
        empty.
    """
    known = manifest.part_names
    if part != OUT_OF_FOLD and part not in known:
        names = (OUT_OF_FOLD, *known)
        raise SettingsError(
            f"--part must be one of {', '.join(names)}, got {part!r}; {nearest(part, names)}"
        )
    if not is_own_plan(run, manifest):
        if part == OUT_OF_FOLD:
            raise SettingsError(
                f"--part oof: records must be those that {run.folder} was trained on, got records "
                f"{manifest.name!r} of another plan; give those, or name a part of these"
            )
        chosen = run.choose(folds)
        found = [Assignment(number=number, fold=-1, parts=(part,)) for number in chosen]
    else:
        found = _own_parts(run, manifest, part, folds)
    for assigned in found:
        if not manifest.examples_in(assigned.parts):
            parts = ", ".join(assigned.parts)
            raise DataError(
                f"--part {part}: there must be examples to predict, got none in {parts}"
            )
    return tuple(found)


def assign_unseen(
    run: TrainedRun, manifest: Manifest, part: str, folds: str
) -> tuple[Assignment, ...]:
    """All the chosen folds of a run, for images that none of them has seen.

    `manifest` is of the records that say how images are prepared. Raises as `assign_parts` does.
    """
    numbers = run.choose(folds) if not is_own_plan(run, manifest) else None
    if numbers is None:
        chosen = choose_folds(fold_parts(manifest, run.config.data), folds)
        numbers = [fold.number for fold in _complete(run, chosen, folds)]
    return tuple(Assignment(number=number, fold=-1, parts=(part,)) for number in numbers)


def is_own_plan(run: TrainedRun, manifest: Manifest) -> bool:
    """Whether records hold the rows that the run was trained on, in the same parts."""
    return all(of.run.get("plan_digest") == manifest.plan_digest for of in run.folds.values())


def check_label(run: TrainedRun, manifest: Manifest, where: str) -> None:
    """Raises DataError for records whose targets mean something else to the run's models."""
    if manifest.label.kind != "none" and manifest.label != run.label:
        raise DataError(
            f"{where}: label must be that of {run.folder}, {_label_text(run)}, got "
            f"{manifest.label.kind} of {', '.join(manifest.label.classes)}; give records of the "
            "same label, or without one"
        )


def check_columns(
    run: TrainedRun, numbers: Collection[int], rows: pd.DataFrame, where: str
) -> None:
    """Raises DataError unless the table has what the models read beside the image."""
    lacking = [name for name in metadata_columns(run, numbers) if name not in rows.columns]
    if lacking:
        raise DataError(
            f"{where}: columns must be there that the models of {run.folder} read, got none named "
            f"{', '.join(lacking)}; make the records with them in [metadata]"
        )


def metadata_columns(run: TrainedRun, numbers: Collection[int]) -> list[str]:
    """The columns that some folds' models read beside the image; none for images alone."""
    columns: dict[str, None] = {}
    for number in numbers:
        if encoder := run.encoder(number):
            parts: Sequence = (*encoder.categories, *encoder.numbers)
            columns |= dict.fromkeys(part.column for part in parts)
    return list(columns)


def _own_parts(run: TrainedRun, manifest: Manifest, part: str, folds: str) -> list[Assignment]:
    chosen = choose_folds(fold_parts(manifest, run.config.data), folds)
    if part == OUT_OF_FOLD:
        return [
            Assignment(number=fold.number, fold=fold.fold, parts=fold.validation)
            for fold in _complete(run, chosen, folds)
        ]
    unseen = [fold for fold in chosen if part not in fold.train]
    if not unseen:
        raise SettingsError(
            f"--part {part}: a fold must not have trained on it, got only folds that have: "
            f"{_numbers_text(fold.number for fold in chosen)}; name another part, or other --folds"
        )
    return [
        Assignment(number=fold.number, fold=_fold_of(fold, part), parts=(part,))
        for fold in _complete(run, unseen, folds)
    ]


def _fold_of(fold: FoldParts, part: str) -> int:
    """As training has it: the fold that a part validates, -1 for the others."""
    return fold.fold if part in fold.validation else -1


def _complete(run: TrainedRun, chosen: Sequence[FoldParts], folds: str) -> list[FoldParts]:
    """Those of the chosen that are complete; that others were left out is said."""
    complete = [fold for fold in chosen if fold.number in run.folds]
    lacking = _numbers_text(fold.number for fold in chosen if fold.number not in run.folds)
    if lacking and (folds != "all" or not complete):
        raise DataError(
            f"{run.folder}: folds must be complete to predict, got {lacking} not; train with "
            f"trainer.task, or name others with --folds (complete: {_numbers_text(run.folds)})"
        )
    if lacking:
        print(f"{run.folder}: left out, for they are not complete: folds {lacking}", flush=True)
    return complete


def _numbers_text(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _label_text(run: TrainedRun) -> str:
    return f"{run.label.kind} of {', '.join(run.label.classes)}"
