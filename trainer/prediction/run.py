"""Reads runs and records, predicts fold by fold, and writes what `trainer.predict` promises."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline import storage
from pipeline.predictions import (
    Predictions,
    make_predictions,
    output_classes,
    write_predictions,
)
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import Manifest, read_rows
from pipeline.stream.records import Records, open_records
from pipeline.wording import counted
from trainer.ensemble.submission import check_columns as check_submission
from trainer.ensemble.submission import write_submission
from trainer.prediction.assign import Assignment, check_columns, metadata_columns
from trainer.prediction.average import average
from trainer.prediction.fold_outputs import (
    outputs_digest,
    outputs_file,
    read_outputs,
    write_outputs,
)
from trainer.prediction.images import Prepared, prepare_images
from trainer.prediction.members import Member, combine_members, read_members
from trainer.prediction.request import Request
from trainer.report import fold_figures, fold_table

if TYPE_CHECKING:
    import tensorflow as tf


def predict(request: Request) -> int:
    """The job that `trainer.predict` describes; its exit code."""
    records = open_records(request.records, allow_failures=request.allow_failures)
    members, ensemble = read_members(request, records)
    if request.submission:
        check_submission(members[0].run.label, request.submission_columns)
    final = request.output or members[0].output
    prepared = None
    if request.images:
        prepared = _prepared(request, members, records.manifest, final)
        records = prepared.records
    rows = read_rows(records.folder)
    for member in members:
        check_columns(member.run, [of.number for of in member.assigned], rows, records.folder)
    predictor = _FoldPredictor(request, records, rows)
    tables = [_predict_member(request, member, predictor) for member in members]
    combined = tables[0]
    if ensemble:
        combined = combine_members(request, members, tables, ensemble, records.manifest)
        write_predictions(final, combined)
    if request.submission:
        write_submission(request.submission, combined, request.submission_columns)
    _report(combined, final)
    if request.submission:
        print(request.submission)
    return _finish(request, prepared, final)


def _prepared(
    request: Request, members: Sequence[Member], manifest: Manifest, final: str
) -> Prepared:
    assert request.images
    columns: dict[str, None] = {}
    for member in members:
        numbers = [of.number for of in member.assigned]
        columns |= dict.fromkeys(metadata_columns(member.run, numbers))
    prepared = prepare_images(request.images, manifest, tuple(columns), _work_folder(final))
    print(
        f"{counted(prepared.rows - prepared.failed, 'image')} prepared, {prepared.failed:,} failed"
    )
    return prepared


class _FoldPredictor:
    """Predicts a fold's parts; starts TensorFlow and its devices when first asked."""

    def __init__(self, request: Request, records: Records, rows: pd.DataFrame) -> None:
        self._request, self.records, self.rows = request, records, rows
        self._strategy: tf.distribute.Strategy | None = None

    def __call__(self, member: Member, assigned: Assignment) -> Any:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        from trainer.prediction.fold import predict_fold
        from trainer.strategy import choose_strategy

        if self._strategy is None:
            self._strategy = choose_strategy(self._request.tpu, self._request.replicas)
        return predict_fold(
            member.run,
            assigned,
            member.views,
            self.records,
            self.rows,
            strategy=self._strategy,
            batch_size=self._request.batch_size or member.run.config.train.batch_size,
            precision=self._request.precision,
        )


def _predict_member(request: Request, member: Member, predictor: _FoldPredictor) -> Predictions:
    """Predicts what no earlier command has, and writes the member's own file."""
    run, records, outputs = member.run, predictor.records, []
    for assigned in member.assigned:
        digest = outputs_digest(run, assigned, records, request.views, request.precision)
        file = outputs_file(member.output, assigned.number)
        found = read_outputs(file, digest)
        how = "taken over" if found else f"{len(member.views)} views" if member.views[1:] else ""
        if found is None:
            found = predictor(member, assigned)
            write_outputs(file, found, digest)
        outputs.append(found)
        suffix = f", {how}" if how else ""
        print(
            f"{run.folder}: fold {assigned.number}: {counted(len(found.rows), 'row')}{suffix}",
            flush=True,
        )
    averaged = average(outputs, run.label.kind, request.average)
    keys = _keys(predictor.rows, averaged.rows, run.label, records.manifest)
    for assigned, of_fold in zip(member.assigned, outputs, strict=True):
        keys.loc[of_fold.rows, "fold"] = assigned.fold
    about = _about(request, member, records.manifest)
    table = make_predictions(keys, averaged.logits, averaged.probs, run.label, about)
    if request.keep_views:
        for view in range(len(member.views)):
            for place, name in enumerate(output_classes(run.label)):
                values = averaged.view_probs[:, view, place].astype(np.float32)
                table.frame[f"view{view}_prob_{name}"] = values
    write_predictions(member.output, table)
    return table


def _keys(
    rows: pd.DataFrame, wanted: np.ndarray, label: LabelInfo, manifest: Manifest
) -> pd.DataFrame:
    """The key columns of some rows, by row; without a label of their own, targets are unknown."""
    keys = rows.set_index("row", drop=False).loc[wanted].copy()
    if manifest.label.kind == "none" and label.kind == "multilabel":
        keys["target"] = [[-1.0] * len(label.classes)] * len(keys)
    return keys


def _about(request: Request, member: Member, manifest: Manifest) -> dict[str, Any]:
    """What the file says of itself.

    Parts that chose weights or rates flatter their own rows (`selected_on`), and no others'.
    """
    folds = [member.run.folds[assigned.number].run for assigned in member.assigned]
    chose = {part for of in folds for part in of.get("selected_on", ())}
    predicted = {part for assigned in member.assigned for part in assigned.parts}
    about: dict[str, Any] = {
        "records": manifest.name,
        "run": member.run.folder,
        "part": request.what,
        "folds": [assigned.number for assigned in member.assigned],
        "views": request.views,
        "average": request.average,
        "precision": request.precision,
        "recipe_digest": folds[0]["recipe_digest"],
        "plan_digest": manifest.plan_digest,
        "render_digest": manifest.render_digest,
    }
    if own := sorted(chose & predicted):
        about["selected_on"] = own
    if others := sorted(chose - predicted):
        about["weights_selected_on"] = others
    return about


def _report(predictions: Predictions, file: str) -> None:
    if (predictions.targets >= 0).any():
        print(fold_table(fold_figures(predictions)))
    print(file)


def _finish(request: Request, prepared: Prepared | None, final: str) -> int:
    """Removes what images were prepared for; the failed ones stay, beside the predictions."""
    if prepared is None or request.images is None:
        return 0
    work, beside = _work_folder(final), f"{final.removesuffix('.parquet')}.failed.csv"
    if prepared.failed:
        storage.write_bytes(beside, storage.read_bytes(storage.join(work, "failed.csv")))
    else:
        storage.remove(beside)
    storage.remove_tree(work)
    if prepared.is_over_limit:
        print(
            f"predict: {prepared.failed:,} of {prepared.rows:,} images failed, more than "
            f"--max_failures {request.images.max_failures:g} allows; the others are predicted, "
            f"{beside} says why",
            file=sys.stderr,
        )
        return 3
    return 0


def _work_folder(final: str) -> str:
    return f"{final.removesuffix('.parquet')}.images"
