"""The runs that predict, checked against the records and each other, and how they are combined."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from pipeline import storage
from pipeline.align import align
from pipeline.combine import Ensemble, logits_of, read_ensemble
from pipeline.errors import SettingsError
from pipeline.predictions import (
    Predictions,
    make_predictions,
    output_classes,
    read_predictions,
    run_folder_of,
)
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import Manifest
from pipeline.scoring.average import check_ensemble
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.records import Records
from pipeline.stream.views import View, build_views, check_record_size
from trainer.prediction.assign import (
    Assignment,
    assign_parts,
    assign_unseen,
    check_label,
    is_own_plan,
)
from trainer.prediction.images import PART
from trainer.prediction.request import Request
from trainer.run_folder import CONFIG_NAME
from trainer.trained_run import TrainedRun, read_trained_run

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One run with what its folds are to predict."""

    name: str  # by which an ensemble knows it
    run: TrainedRun
    assigned: tuple[Assignment, ...]
    views: tuple[View, ...]
    output: str


def read_members(request: Request, records: Records) -> tuple[list[Member], Ensemble | None]:
    """The runs that are asked for, and how they are combined; None for one run alone.

    Raises:
      SettingsError: a run is not there, or does not go with the others or with the records.
      DataError: a fold is not complete, or the label another.
    """
    ensemble = read_ensemble(request.ensemble) if request.ensemble else None
    names = ensemble.members if ensemble else request.runs
    runs = request.runs or tuple(_run_of(name) for name in names)
    if len(runs) != len(names):
        raise SettingsError(
            f"--run must be given for each of the {len(names)} members of {request.ensemble}, in "
            f"their order, got {len(runs)}; or leave it out, to take them from where they were"
        )
    request.check_runs(runs)
    members = [_member(request, name, run, records) for name, run in zip(names, runs, strict=True)]
    _check_together(members, ensemble, request.ensemble)
    if ensemble is None and len(members) > 1:
        ensemble = _mean(members[0].run.label, names)
    return members, ensemble


def _member(request: Request, name: str, folder: str, records: Records) -> Member:
    where = f"--ensemble: member {name}" if request.ensemble and not request.runs else "--run"
    run, manifest = read_trained_run(folder, where), records.manifest
    if request.images:
        assigned = assign_unseen(run, manifest, PART, request.folds)
    else:
        check_label(run, manifest, records.folder)
        assigned = assign_parts(run, manifest, request.part, request.folds)
    views = build_views(
        request.views,
        build_ops(run.config.augment),
        size_px=run.size_px,
        border=run.config.data.border,
        seed=run.config.train.seed,
    )
    if manifest.size is None:
        raise SettingsError(f"{records.folder}: records must hold images, got values alone")
    check_record_size(
        request.views,
        size_px=run.size_px,
        stored_px=manifest.size,
        has_more=manifest.render.get("fit") == "short",
        where=records.folder,
    )
    ops = {table["op"] for table in run.config.augment}
    if request.views.startswith("crops") and "same_size_crop" not in ops:
        _log.warning(
            "%s: --views %s shows parts of an image unscaled; its recipe has no same_size_crop, so "
            "its models were not trained on such",
            folder,
            request.views,
        )
    is_only = not request.ensemble and len(request.runs) == 1
    output = request.output if is_only and request.output else request.default_output(folder)
    return Member(name=name, run=run, assigned=assigned, views=views, output=output)


def _run_of(member: str) -> str:
    """The run folder of an ensemble's member, which is to be there."""
    folder = run_folder_of(member)
    if not storage.exists(storage.join(folder, CONFIG_NAME)):
        raise SettingsError(
            f"--ensemble: members must be run folders to predict, got {member!r}; give each with "
            "--run, in the members' order"
        )
    return folder


def _check_together(
    members: Sequence[Member], ensemble: Ensemble | None, where: str | None
) -> None:
    first = members[0].run
    for member in members[1:]:
        if member.run.label != first.label:
            raise SettingsError(
                f"--run: labels must be equal, got that of {member.run.folder}, "
                f"{member.run.label}, beside {first.label} of {first.folder}"
            )
        # Where a run leaves a fold out, the rows of that fold's part have no prediction of it.
        parts, of_first = (_parts(one.assigned) for one in (member, members[0]))
        if parts != of_first:
            raise SettingsError(
                f"--run: all runs must predict the same parts, got {', '.join(parts)} of "
                f"{member.run.folder} beside {', '.join(of_first)} of {first.folder}; train the "
                "folds that are not complete, or name with --folds those that are"
            )
    if ensemble:
        check_ensemble(ensemble, first.label, str(where))


def _parts(assigned: Sequence[Assignment]) -> list[str]:
    return sorted({part for of_fold in assigned for part in of_fold.parts})


def _mean(label: LabelInfo, names: Sequence[str]) -> Ensemble:
    """Of the members' probabilities, where no file says otherwise."""
    classes = output_classes(label)
    return Ensemble(
        method="mean",
        kind=label.kind,
        classes=classes,
        members=tuple(names),
        scale="prob",
        weights=((1.0,) * len(classes),) * len(names),
    )


def combine_members(
    request: Request,
    members: Sequence[Member],
    tables: Sequence[Predictions],
    ensemble: Ensemble,
    manifest: Manifest,
) -> Predictions:
    """The members' predictions of the same rows as one table, which says what it is made of.

    An ensemble that chose its weights flatters the rows that it chose them on: `selected_on`.
    """
    names = [member.name for member in members]
    aligned = align(tables, names)
    first = aligned[0]
    probs = ensemble.combine({name: of.probs for name, of in zip(names, aligned, strict=True)})
    marks = {
        key: sorted({part for of in aligned for part in of.run.get(key, ())})
        for key in ("selected_on", "weights_selected_on")
    }
    if ensemble.method != "mean":
        chose = {part for member in members for part in _judged_parts(member, manifest)}
        marks["selected_on"] = sorted({*marks["selected_on"]} | (chose & {*first.frame["part"]}))
    about = {
        "records": first.run["records"],
        "part": request.what,
        "ensemble": ensemble.method,
        "members": names,
        "views": request.views,
        **{key: parts for key, parts in marks.items() if parts},
    }
    logits = logits_of(probs, first.label.kind)
    return make_predictions(first.frame, logits, probs, first.label, about)


def _judged_parts(member: Member, manifest: Manifest) -> set[str]:
    """The parts that ensembles choose on: those of the member's own file, or of its run's."""
    if not is_own_plan(member.run, manifest):
        return set()
    if member.name.endswith(".parquet"):
        return {*read_predictions(member.name).frame["part"]}
    return {part for table in member.run.folds.values() for part in table.frame["part"].unique()}
