"""What real input costs a training step, against one batch that is there already.

    python -m benchmarks.step --data FOLDER [--rounds N] [--b0_steps N]
    python -m benchmarks.step --records FOLDER

Streams records of 256 px with the full augmentation of `benchmarks/stream.py` (made of the images
of FOLDER/siim2020, unless `--records` names some) into `trainer.loop`, in turn with:

- a stand-in step that sleeps 1.1 times what the stream alone needs for a batch, and leaves the
  cores to the stream as an accelerator would: are batches made while the device works?
- EfficientNet-B0, which on a CPU shares the cores with the stream.

A round is an epoch of the stand-in and `--b0_steps` of B0, each right after another; each lets the
next begin ahead, as a run does. Ratios are of seconds a step, real input over the constant batch,
within a round, with and without the first call, which may wait for the first batch. Prints medians
over the rounds, then one line of JSON.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks.stream import BATCH, FULL, SIZE_PX, make_records
from pipeline.predictions import output_classes
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.batches import Position, TrainingStream
from pipeline.stream.records import Records, open_records
from trainer.config import Config, resolve
from trainer.loop import Loop
from trainer.models.build import build_model
from trainer.optimizers import build_optimizer
from trainer.running.ahead import Ahead
from trainer.score_histogram import BINS

SLEEP = 1.1  # of the stream's seconds a batch
STEPS_PER_CALL = 32  # the default of `[train]`
B0_STEPS_PER_CALL = 4  # a step of B0 takes seconds on a CPU
FIGURES = ("seconds a step", "real / constant", "after the first call", "waited")


class StandInLoop(Loop):
    """A `Loop` whose step is a nap: its way to the batches is the real one."""

    nap_seconds = 0.0

    def replica_step(self, inputs: Any, targets: Any, mask: Any, number: Any, is_last: bool) -> Any:
        def nap(number: np.int64) -> np.float32:
            time.sleep(self.nap_seconds)
            return np.float32(0)

        with tf.control_dependencies(tf.nest.flatten((inputs, targets, mask))):
            loss = tf.ensure_shape(tf.numpy_function(nap, [number], tf.float32), [])
        return loss, tf.zeros([2, BINS])


def main() -> int:
    """Measures, prints, returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder that holds siim2020/")
    parser.add_argument("--records", help="records of 256 px or more to stream, such as out/256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--b0_steps", type=int, default=2 * B0_STEPS_PER_CALL, help="0: B0 is left out"
    )
    flags = parser.parse_args()
    if 0 < flags.b0_steps <= B0_STEPS_PER_CALL:
        parser.error(f"--b0_steps must be 0 or above {B0_STEPS_PER_CALL}, got {flags.b0_steps}")
    if (flags.data is None) == (flags.records is None):
        parser.error("give --data or --records")
    with tempfile.TemporaryDirectory() as folder:
        if flags.records:
            records = open_records(flags.records)
        else:
            records = make_records(flags.data.resolve(), Path(folder), rows=16_576)
        figures = measure(records, flags.rounds, flags.b0_steps)
    print(f"{'':<12}" + "".join(f"{name:>22}" for name in FIGURES))
    for name, values in figures.items():
        print(f"{name:<12}" + "".join(f"{value:>22.3f}" for value in values))
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "batch_size": BATCH, **figures}))
    return 0


def measure(records: Records, rounds: int, b0_steps: int) -> dict[str, list[float]]:
    """Medians of `FIGURES` by kind of step; of the stream alone, seconds a batch."""
    parts = [f"fold{number}" for number in records.manifest.record_folds]
    stream = TrainingStream(
        records,
        parts,
        batch_size=BATCH,
        seed=1,
        image_size_px=SIZE_PX,
        ops=build_ops(FULL),
        cache="none",
    )
    [batch] = stream.epoch().take(1)
    stand_in = make_loop(StandInLoop, records, STEPS_PER_CALL)
    loops: list[tuple[str, Loop, int]] = [("stand-in", stand_in, stream.steps_per_epoch)]
    if b0_steps:
        loops.append(("B0", make_loop(Loop, records, B0_STEPS_PER_CALL), b0_steps))
    found = collections.defaultdict(list)
    for round_ in range(rounds + 1):
        alone = time_stream(stream, round_)
        stand_in.nap_seconds = SLEEP * alone
        values = {"stream alone": [alone]}
        for name, loop, steps in loops:
            constant = loop.iterate(lambda _: tf.data.Dataset.from_tensors(batch).repeat())
            reference, _, _ = time_steps(loop, constant, steps)
            # Each epoch begins the next near its end, as in a run.
            ahead, first = Ahead(loop, stream), 2 * round_
            begin = [functools.partial(ahead.begin, Position(epoch=first + n)) for n in (1, 2)]
            time_steps(loop, ahead.take(Position(epoch=first)), steps, begin[0])
            start = time.perf_counter()
            iterator = ahead.take(Position(epoch=first + 1))
            taking = (time.perf_counter() - start) / steps
            whole, later, waited = time_steps(loop, iterator, steps, begin[1])
            values[name] = [whole + taking, (whole + taking) / reference, later / reference, waited]
        for name, figures in values.items():
            found[name] += [figures] if round_ else []  # the first round compiled
    return {
        name: [round(statistics.median(figure), 4) for figure in zip(*values, strict=True)]
        for name, values in found.items()
    }


def make_loop(kind: type[Loop], records: Records, steps_per_call: int) -> Loop:
    """The default recipe: EfficientNet-B0 of SIZE_PX from scratch."""
    config = resolve(Config(), records.manifest)
    label = records.manifest.label
    model = build_model(
        config.model, image_size_px=SIZE_PX, metadata_width=0, outputs=len(output_classes(label))
    )
    rates = np.full(1, 1e-4, np.float32)
    return kind(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(config.optimizer, rates, model.trainable_variables),
        losses=config.loss,
        batch_size=BATCH,
        steps_per_call=steps_per_call,
        clip_norm=None,
        label=label,
    )


def time_stream(stream: TrainingStream, epoch: int) -> float:
    """Seconds a batch of an epoch that nobody trains on."""
    start = time.perf_counter()
    for _ in stream.epoch(Position(epoch=epoch)):
        pass
    return (time.perf_counter() - start) / stream.steps_per_epoch


def time_steps(
    loop: Loop, iterator: Any, steps: int, near_end: Callable[[], None] | None = None
) -> tuple[float, float, float]:
    """Seconds a step of all calls, and of those after the first; the share that was waited."""
    calls = []
    for step in range(0, steps, loop.steps_per_call):
        if near_end and steps - step <= 2 * loop.steps_per_call:
            near_end()
        calls.append(loop.train(iterator, step, min(loop.steps_per_call, steps - step)))
    seconds = sum(call.seconds for call in calls)
    later = (seconds - calls[0].seconds) / (steps - loop.steps_per_call)
    return seconds / steps, later, sum(call.waited_seconds for call in calls) / seconds


if __name__ == "__main__":
    sys.exit(main())
