"""One baseline over the folds of a run: fits each, writes predictions as `trainer.task` does.

Every class the label has an output for is a question of its own, against the rest. For several
exclusive classes their probabilities are then scaled to sum to 1. "balanced" weighs the two sides
of each question, so that rare classes all ask for a large share of that 1: a single one reaches 0.5
less often, not more. Called by the entry point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import storage
from pipeline.predictions import (
    PREDICTIONS_NAME,
    Predictions,
    concatenate,
    make_predictions,
    read_predictions,
    write_predictions,
)
from pipeline.records.label import LabelKind
from pipeline.records.manifest import Manifest
from trainer.baselines.features import FeatureKind, Matrix, fold_features
from trainer.baselines.linear import ClassWeight, Linear, LinearKind, fit_linear
from trainer.folds import FoldParts
from trainer.metrics import as_json, evaluate, truth
from trainer.run_folder import fold_digests, fold_folder, start_run, withdraw_fold

_SMALLEST_PROB = 1e-7  # keeps the logit of a certain probability finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """What `RUN/NAME/config.toml` says; `folds`, `train` and `validation` as in `[data]`."""

    model: LinearKind
    features: tuple[FeatureKind, ...]
    class_weight: ClassWeight = "none"
    pixels_px: int = 16
    seed: int = 0  # of the inner folds
    folds: int | None = None
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as `svm-pixels+metadata-balanced`."""
        weighted = () if self.class_weight == "none" else (self.class_weight,)
        return "-".join((self.model, "+".join(self.features), *weighted))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Out-of-fold predictions of every complete fold, and each one's AUC on its training rows."""

    predictions: Predictions
    training_aucs: tuple[float, ...]


def run_baseline(
    folder: str,
    baseline: Baseline,
    manifest: Manifest,
    rows: pd.DataFrame,
    pictures: Mapping[FeatureKind, Matrix],
    folds: Sequence[FoldParts],
    folds_of_run: Sequence[FoldParts],
) -> Outcome:
    """Fits the folds, writes what a run has, and gathers all of `folds_of_run` that are complete.

    `config.toml`, `records.json`, `foldK/predictions.parquet` and last `predictions.parquet`.
    `rows` and `pictures` go line by line (`trainer.baselines.features.read_pictures`). The older
    predictions of a fold are withdrawn before it is fitted again; the other folds' stay.
    """
    start_run(folder, baseline, manifest)
    for fold in folds:
        withdraw_fold(folder, fold.number)
        is_train = rows["part"].isin(fold.train).to_numpy()
        is_validation = rows["part"].isin(fold.validation).to_numpy()
        features = fold_features(baseline.features, pictures, rows, manifest, is_train)
        questions = _fit(baseline, rows[is_train], features[is_train], manifest)
        about = {
            "records": manifest.name,
            "baseline": baseline.name,
            "fold": fold.number,
            **fold_digests(baseline, manifest, fold),
            "c": [question.c for question in questions],
        }
        seen, unseen = (
            _predict(
                questions, rows[chosen].assign(fold=fold.fold), features[chosen], manifest, about
            )
            for chosen in (is_train, is_validation)
        )
        about["training_auc"] = as_json(evaluate(seen))["auc"]
        unseen = dataclasses.replace(unseen, run=about)
        write_predictions(storage.join(fold_folder(folder, fold.number), PREDICTIONS_NAME), unseen)
    parts = _complete(folder, baseline, manifest, folds_of_run)
    predictions = concatenate(parts, {**parts[0].run, "folds": [of.run["fold"] for of in parts]})
    write_predictions(storage.join(folder, PREDICTIONS_NAME), predictions)
    aucs = [part.run["training_auc"] for part in parts]
    return Outcome(
        predictions=predictions,
        training_aucs=tuple(float("nan") if auc is None else auc for auc in aucs),
    )


def _complete(
    folder: str, baseline: Baseline, manifest: Manifest, folds: Sequence[FoldParts]
) -> list[Predictions]:
    """The predictions of the folds that were fitted by this baseline on these records."""
    found = []
    for fold in folds:
        of_fold = fold_folder(folder, fold.number)
        if storage.exists(storage.join(of_fold, PREDICTIONS_NAME)):
            predictions = read_predictions(of_fold)
            if fold_digests(baseline, manifest, fold).items() <= predictions.run.items():
                found.append(predictions)
    return found


def probabilities(
    answers: npt.NDArray[np.float64], kind: LabelKind
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Answers of separate questions, float64 [N, L] logits -> logits and probabilities [N, L].

    For exclusive classes the probabilities are scaled to sum to 1, and the logits are their logs.
    """
    probs = 1 / (1 + np.exp(-answers))
    if kind != "multiclass":
        return answers, probs
    probs = np.maximum(probs, _SMALLEST_PROB)
    probs /= probs.sum(axis=1, keepdims=True)
    return np.log(probs), probs


def _fit(
    baseline: Baseline, rows: pd.DataFrame, features: Matrix, manifest: Manifest
) -> list[Linear]:
    """A question an output class, each of the rows whose answer is known."""
    truths = truth(Predictions(frame=rows, label=manifest.label))
    group = pd.factorize(rows["group"], sort=True)[0]
    questions = []
    for target in truths.T:
        is_known = ~np.isnan(target)
        questions.append(
            fit_linear(
                baseline.model,
                features[is_known],
                target[is_known] == 1,
                group[is_known],
                baseline.class_weight,
                baseline.seed,
            )
        )
    return questions


def _predict(
    questions: Sequence[Linear],
    rows: pd.DataFrame,
    features: Matrix,
    manifest: Manifest,
    about: dict[str, Any],
) -> Predictions:
    answers = np.stack([question.logits(features) for question in questions], axis=1)
    logits, probs = probabilities(answers, manifest.label.kind)
    return make_predictions(rows, logits, probs, manifest.label, about)
