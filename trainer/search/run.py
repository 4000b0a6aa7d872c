"""A search from its flags to its table: plans the trials, trains them, ranks what is complete.

Called by the entry point. Starts no TensorFlow: only the trials' processes do.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.predictions import Predictions
from pipeline.records.manifest import Manifest
from pipeline.stream.records import open_records
from trainer.folds import FoldParts, fold_parts
from trainer.metrics import as_text, evaluate
from trainer.search.page import PAGE_NAME, write_page
from trainer.search.processes import (
    OUTPUT_NAME,
    Launch,
    Process,
    failure_of,
    launching,
    run_trials,
    shared_cores,
)
from trainer.search.results import (
    METRICS,
    Failure,
    Findings,
    MetricName,
    rank,
    result_table,
    write_results,
)
from trainer.search.space import Combination, combinations, parse_grid, parse_range
from trainer.search.trials import BASE_NAME, TRIALS_NAME, Base, Note, Trial, plan_trials

Launching = Callable[[str], contextlib.AbstractContextManager[Launch]]

_STOPPED = (143, 130, -15)  # codes of a trial that was asked to leave; it goes on another time


def search(flags: argparse.Namespace, launching: Launching = launching) -> int:
    """Trains every trial that is asked for and not complete; then ranks all that are.

    `launching` gives what starts the trials' processes; by default they run on this machine.
    """
    storage.refuse_remote(
        flags.run, "--run", "trials are processes of this machine; copy the folder when it is done"
    )
    if flags.draws < 1:
        raise SettingsError(f"--draws must be 1 or more, got {flags.draws}")
    shared_cores(flags.parallel)
    asked = combinations(
        [parse_grid(text) for text in flags.grid],
        [parse_range(text) for text in flags.random],
        draws=flags.trials,
        seed=flags.seed,
    )
    _refuse_set_twice(flags.overrides, asked[0])
    # They name one folder for all trials: each keeps its own in its run folder instead.
    for name in ("AIP_CHECKPOINT_DIR", "AIP_TENSORBOARD_LOG_DIR"):
        os.environ.pop(name, None)
    records = open_records(flags.records, allow_failures=flags.allow_failures)
    base = Base(
        records=records,
        config_path=flags.config,
        overrides=tuple(flags.overrides),
        folds=flags.folds,
        allow_failures=flags.allow_failures,
        replicas=flags.replicas,
    )
    for combination in asked:  # refused before the folder is made
        _, folds = base.recipe(combination)
        if flags.prune and len(folds) < 2:
            raise SettingsError("--prune must be given with two folds or more, got one")
    with launching(flags.run) as launch:
        if flags.fresh:
            storage.remove(storage.join(flags.run, BASE_NAME))
            storage.remove_tree(storage.join(flags.run, TRIALS_NAME))
        trials, chosen = plan_trials(flags.run, base, asked)
        print(_summary(trials, chosen, records.manifest), flush=True)
        _train(flags, chosen, records.manifest, launch)
        findings = _findings(flags, trials, records.manifest)
        write_results(flags.run, findings)
        write_page(flags.run, findings)
    print(result_table(findings))
    print(storage.join(flags.run, PAGE_NAME))
    return 0 if findings.results else 1


def _refuse_set_twice(overrides: Sequence[str], combination: Combination) -> None:
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key in combination:
            raise SettingsError(
                f"--set: a key must be set or searched, got {key} in --grid or --random as well"
            )


def _summary(trials: Sequence[Trial], chosen: Sequence[Trial], manifest: Manifest) -> str:
    open_ = [trial for trial in chosen if trial.predictions(manifest) is None]
    failed = sum(trial.note().failure is not None for trial in open_)
    others = len(trials) - len(chosen)
    return (
        f"{len(chosen)} trial{'s' if len(chosen) > 1 else ''} on {_validation(chosen[0].folds)}: "
        f"{len(chosen) - len(open_)} done, {failed} failed, {len(open_) - failed} to train"
        + (f"; {others} more by other searches" if others else "")
    )


def _train(
    flags: argparse.Namespace, chosen: Sequence[Trial], manifest: Manifest, launch: Launch
) -> None:
    """Every trial on every fold; with `--prune` fold by fold, the better half going on."""
    if flags.retry_failed:
        for trial in chosen:
            trial.write(Note(seconds=trial.note().seconds))
    folds = len(chosen[0].folds)
    alive = list(chosen)
    for count in range(1, folds + 1) if flags.prune else [folds]:
        waiting = [
            trial
            for trial in alive
            if not trial.note().failure and trial.predictions(manifest, count) is None
        ]
        _train_folds(flags, waiting, manifest, launch, count)
        if count < folds:
            alive = _better_half(alive, manifest, count, flags.metric)


def _train_folds(
    flags: argparse.Namespace, trials: Sequence[Trial], manifest: Manifest, launch: Launch,
    count: int,
) -> None:  # fmt: skip
    """The first so many folds of each trial, as far as they are not complete."""

    def start(trial: Trial, cores: Sequence[int] | None) -> Process:
        print(f"trial {trial.name} starts; see {trial.folder}/{OUTPUT_NAME}", flush=True)
        return launch(trial.folder, _words(flags, trial, trial.folds[:count]), cores)

    def ended(trial: Trial, code: int, seconds: float) -> None:
        predictions = trial.predictions(manifest, count)
        failure = None if code in (0, *_STOPPED) else failure_of(code, trial.folder)
        if code == 0 and predictions is None:
            failure = "ended well, but its predictions are not of the recipe that was planned"
        trial.write(Note(seconds=trial.note().seconds + seconds, failure=failure))
        if failure:
            outcome = f"failed: {failure}"
        elif predictions is None:
            outcome = "was stopped"
        else:
            score = as_text(evaluate(predictions)[flags.metric])
            outcome = f"{METRICS[flags.metric][0]} {score} in {seconds:.0f} s"
        print(f"trial {trial.name} {outcome}", flush=True)

    run_trials(trials, start, parallel=flags.parallel, ended=ended)


def _words(flags: argparse.Namespace, trial: Trial, folds: Sequence[FoldParts]) -> list[str]:
    """The command line of `trainer.task` for a trial."""
    settings = [*flags.overrides, *(f"{key}={value}" for key, value in trial.combination.items())]
    numbers = ",".join(str(fold.number) for fold in folds)
    words = ["--records", flags.records, "--run", trial.folder, "--folds", numbers]
    words += ["--config", flags.config] if flags.config else []
    words += [word for text in settings for word in ("--set", text)]
    words += ["--allow_failures"] if flags.allow_failures else []
    words += ["--tpu", flags.tpu] if flags.tpu else []
    words += ["--replicas", str(flags.replicas)] if flags.replicas is not None else []
    return words


def _better_half(
    alive: Sequence[Trial], manifest: Manifest, folds: int, metric: MetricName
) -> list[Trial]:
    """By the pooled figure of the first folds, two trials at least, in order of number."""
    scores = {}
    for trial in alive:
        if (predictions := trial.predictions(manifest, folds)) is not None:
            scores[trial.number] = evaluate(predictions)[metric]
    kept = sorted(scores, key=lambda number: (-np.nan_to_num(scores[number], nan=-1), number))
    kept = kept[: max(2, math.ceil(len(kept) / 2))]
    numbers = ", ".join(f"{number:03d}" for number in sorted(kept))
    print(f"after {folds} of {len(alive[0].folds)} folds go on: {numbers}", flush=True)
    return [trial for trial in alive if trial.number in kept]


def _findings(flags: argparse.Namespace, trials: Sequence[Trial], manifest: Manifest) -> Findings:
    scored, failures, unfinished = [], [], []
    for trial in trials:
        predictions, failure = trial.predictions(manifest), trial.note().failure
        if predictions is None and flags.prune and not failure:
            predictions = _of_most_folds(trial, manifest)
        if predictions is not None:
            scored.append((trial, predictions))
        elif failure:
            failures.append(Failure(trial=trial, reason=failure))
        else:
            unfinished.append(trial)
    folds = trials[0].folds
    every = fold_parts(manifest, trials[0].config.data)
    return Findings(
        metric=flags.metric,
        validation=_validation(folds),
        unseen_folds=tuple(fold.number for fold in every if fold not in folds),
        results=rank(scored, flags.metric, draws=flags.draws, seed=flags.seed),
        failures=tuple(failures),
        unfinished=tuple(unfinished),
    )


def _of_most_folds(trial: Trial, manifest: Manifest) -> Predictions | None:
    """Of as many of the first folds as are complete; None for none of them."""
    for count in range(len(trial.folds) - 1, 0, -1):
        if (predictions := trial.predictions(manifest, count)) is not None:
            return predictions
    return None


def _validation(folds: Sequence[FoldParts]) -> str:
    """`folds 0, 1`; the names of given parts."""
    if folds[0].fold < 0:
        return ", ".join(folds[0].validation)
    numbers = ", ".join(str(fold.number) for fold in folds)
    return f"fold{'s' if len(folds) > 1 else ''} {numbers}"
