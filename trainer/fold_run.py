"""One fold from its parts to its predictions; called by `trainer.task` for each fold in turn."""

from __future__ import annotations

from pipeline import storage
from pipeline.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from pipeline.stream.damage import naming_damage
from trainer.config import Config
from trainer.folds import FoldParts
from trainer.run_folder import checkpoint_folder, fold_digests, fold_folder, withdraw_fold
from trainer.running.ahead import Ahead
from trainer.running.checkpoints import Checkpoints
from trainer.running.course import course_of
from trainer.running.epochs import Epochs
from trainer.running.journal import opened_journal
from trainer.running.setup import (
    Run,
    build_loop,
    build_predict,
    fit_encoder,
    open_evaluation,
    open_stream,
)
from trainer.running.state import State
from trainer.schedules import Plateau
from trainer.stages.initial import read_initial
from trainer.stages.source import find_source


def train_fold(run: Run, fold: FoldParts) -> Predictions:
    """Trains its stages one after another, from the newest checkpoint on, and predicts.

    Withdraws the fold's older predictions, then writes `metadata.json`, `metrics.jsonl`,
    `checkpoints/`, TensorBoard's files and last, so that it says "complete", `predictions.parquet`.

    A stage begins with a model of its own, which takes weights and averages from the checkpoint
    that the last one ended with: whether that was a moment or a crash ago makes no difference.

    Raises:
      TrainingError: the loss or a weight is no longer finite.
      Stopped: a signal asked to leave; what was trained is saved.
    """
    config, folder = run.config, fold_folder(run.folder, fold.number)
    manifest = run.records.manifest
    source = find_source(config, manifest, fold, run.folder)
    withdraw_fold(run.folder, fold.number)
    digests = fold_digests(config, manifest, fold)
    checkpoints = Checkpoints(checkpoint_folder(run.folder, fold.number), digests)
    saved = checkpoints.newest()
    checkpoints.start_from(saved)

    encoder = fit_encoder(run, fold)
    if encoder:
        storage.write_text(storage.join(folder, "metadata.json"), encoder.to_json())
    metadata = encoder.encode_by_row(run.rows) if encoder else None
    stream = open_stream(run, fold, metadata, saved.is_held if saved else None)
    evaluation = open_evaluation(run, fold, metadata)
    initial = read_initial(source, manifest.label, encoder) if source and not saved else None
    is_selected = config.chooses_on_validation or (source is not None and source.is_selected)
    state = saved or State(is_held=stream.is_held)

    while True:
        course = course_of(config, stream.steps_per_epoch, state.stage)
        loop = build_loop(run, fold, course, metadata, initial)
        if state.step:
            is_begun = state.step > course.first_step
            checkpoints.restore(state.step, loop.tracked() if is_begun else loop.carried())
        plateau = _plateau_of(config.in_stage(course.stage), state)
        if plateau:
            loop.optimizer.rate_fraction.assign(plateau.fraction)
        predict = build_predict(run, fold, loop, evaluation, digests, is_selected=is_selected)
        with (
            opened_journal(run.folder, fold.number, course, state) as journal,
            naming_damage(run.records, fold.train, run.extras),
        ):
            epochs = Epochs(
                fold=fold.number,
                folder=folder,
                train=config.train,
                patience_epochs=config.stages[course.stage].patience_epochs,
                course=course,
                stream=stream,
                ahead=Ahead(loop, stream),
                loop=loop,
                plateau=plateau,
                predict=predict,
                checkpoints=checkpoints,
                journal=journal,
                stopping=run.stopping,
                rows=run.rows,
            )
            if state is saved:
                print(f"fold {fold.number}: goes on after step {saved.step}", flush=True)
            elif not state.step:
                journal.show_batch(stream.epoch())
            state, predictions = epochs.run(state)
        if course.stage + 1 == course.stages:
            break
        state, initial = state.in_next_stage(), None
        del epochs, predict, loop  # the next one's model may need the room

    if state.best and state.best.step != state.step:
        checkpoints.restore(state.best.step, loop.carried())  # may be of another stage
        predictions = None
    predictions = predictions or predict()
    write_predictions(storage.join(folder, PREDICTIONS_NAME), predictions)
    return predictions


def _plateau_of(recipe: Config, state: State) -> Plateau | None:
    """Of a stage's schedule, as it stood."""
    if not recipe.has_plateau:
        return None
    plateau = Plateau(recipe.schedule, recipe.train.evaluate_every or 1)
    if state.plateau:
        plateau.restore(state.plateau)
    return plateau
