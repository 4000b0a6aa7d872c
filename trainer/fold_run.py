"""One fold from its parts to its predictions; called by `trainer.task` for each fold in turn."""

from __future__ import annotations

from pipeline import storage
from pipeline.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from pipeline.stream.damage import naming_damage
from trainer.folds import FoldParts
from trainer.run_folder import checkpoint_folder, fold_digests, fold_folder, withdraw_fold
from trainer.running.checkpoints import Checkpoints
from trainer.running.course import course_of
from trainer.running.epochs import Epochs
from trainer.running.journal import opened_journal
from trainer.running.setup import Run, build_loop, build_predict, fit_encoder, open_stream
from trainer.running.state import State
from trainer.schedules import Plateau


def train_fold(run: Run, fold: FoldParts) -> Predictions:
    """Trains for a fixed number of epochs, from the newest checkpoint on, and predicts.

    Withdraws the fold's older predictions, then writes `metadata.json`, `metrics.jsonl`,
    `checkpoints/`, TensorBoard's files and last, so that it says "complete", `predictions.parquet`.

    Raises:
      TrainingError: the loss or a weight is no longer finite.
      Stopped: a signal asked to leave; what was trained is saved.
    """
    config, folder = run.config, fold_folder(run.folder, fold.number)
    withdraw_fold(run.folder, fold.number)
    digests = fold_digests(config, run.records.manifest, fold)
    checkpoints = Checkpoints(checkpoint_folder(run.folder, fold.number), digests)
    saved = checkpoints.newest()
    checkpoints.start_from(saved)

    encoder = fit_encoder(run, fold)
    if encoder:
        storage.write_text(storage.join(folder, "metadata.json"), encoder.to_json())
    metadata = encoder.encode_by_row(run.rows) if encoder else None
    stream = open_stream(run, fold, metadata, saved.is_held if saved else None)
    course = course_of(config, stream.steps_per_epoch)
    loop = build_loop(run, fold, course, metadata)
    predict = build_predict(run, fold, loop, metadata)
    plateau = (
        Plateau(config.schedule, config.train.evaluate_every or 1) if config.has_plateau else None
    )
    state = saved or State(is_held=stream.is_held)
    if saved:
        checkpoints.restore(saved.step, loop.tracked())
    if plateau and state.plateau:
        plateau.restore(state.plateau)
        loop.optimizer.rate_fraction.assign(plateau.fraction)

    with (
        opened_journal(run.folder, fold.number, course, state) as journal,
        naming_damage(run.records, fold.train, run.extras),
    ):
        epochs = Epochs(
            fold=fold.number,
            folder=folder,
            train=config.train,
            course=course,
            stream=stream,
            loop=loop,
            plateau=plateau,
            predict=predict,
            checkpoints=checkpoints,
            journal=journal,
            stopping=run.stopping,
            rows=run.rows,
        )
        if saved:
            print(f"fold {fold.number}: goes on after step {saved.step}", flush=True)
        else:
            journal.show_batch(stream.epoch())
        state, predictions = epochs.run(state)
    if state.best and state.best.step != state.step:
        checkpoints.restore(state.best.step, loop.tracked())
        predictions = None
    predictions = predictions or predict()
    write_predictions(storage.join(folder, PREDICTIONS_NAME), predictions)
    return predictions
