"""The steps of a recipe as StableHLO: those that the trainer compiles, traced and not run.

Model, optimizer and loop are built by `trainer.running.setup`, as `trainer.fold_run` has them
built, for one core: the sum of the gradients over cores, and what it moves, are not in the program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.records.label import LabelInfo
from trainer.loop import Loop
from trainer.preflight.host_ops import host_ops
from trainer.preflight.module import EVALUATION, HostOpError, Step, host_calls
from trainer.preflight.subject import Subject
from trainer.running.course import course_of
from trainer.running.setup import Run, build_loop, fit_encoder
from trainer.running.state import Stage


def traced_steps(subject: Subject, *, batch: int, cores: int) -> Iterator[Step]:
    """The training step of each stage and the evaluation step, for `batch` examples a core.

    Without published weights or another run's: values do not change a program.

    Raises:
      HostOpError: a step has an op that the host would compute.
    """
    stages = len(subject.config.stages)
    for stage in range(stages):
        loop, metadata_width = _build(subject, stage, batch * cores)
        label = subject.records.manifest.label
        size_px = subject.config.data.image_size_px or 0
        specs = _specs(label, batch, size_px, metadata_width)
        text = stablehlo(
            lambda *args, loop=loop: loop.replica_step(*args, is_last=True),
            (*specs, tf.TensorSpec([], tf.int64)),
        )
        name = f"training, stage {stage + 1}" if stages > 1 else "training"
        yield Step(name=name, stablehlo=text)
    size_px = subject.config.data.evaluation_size_px or size_px
    text = stablehlo(loop.predictor.replica_step, _specs(label, batch, size_px, metadata_width))
    yield Step(name=EVALUATION, stablehlo=text)


def stablehlo(function: Callable[..., Any], specs: Any) -> str:
    """The program of a function of (nested) tensors; its variables are arguments as well.

    Raises:
      HostOpError: naming the ops that the host would compute.
    """

    def flat_function(*tensors: tf.Tensor) -> Any:
        return function(*tf.nest.pack_sequence_as(specs, tensors))

    flat_specs = tf.nest.flatten(specs)
    step = tf.function(tf.autograph.experimental.do_not_convert(flat_function), jit_compile=True)
    refused = host_ops(step.get_concrete_function(*flat_specs).graph)
    text = "" if refused else step.experimental_get_compiler_ir(*flat_specs)(stage="stablehlo")
    if refused := refused or host_calls(text):
        raise HostOpError(
            "the step: every op must be computed by the device, got "
            f"{', '.join(refused)} for the host; it would wait for it at each step"
        )
    return text


def _build(subject: Subject, stage: int, batch_size: int) -> tuple[Loop, int]:
    """A stage's loop for so many examples over all cores, and the width of metadata."""
    config = subject.config
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, weights=None),
        train=dataclasses.replace(
            config.train, batch_size=batch_size, precision=config.train.precision or "bfloat16"
        ),
    )
    run = Run(
        folder="",
        config=config,
        records=subject.records,
        rows=subject.rows,
        ops=subject.ops,
        extras=subject.extras,
        strategy=tf.distribute.get_strategy(),
    )
    width = subject.metadata_width
    if width is None:
        encoder = fit_encoder(run, subject.fold)
        width = len(encoder.names) if encoder else 0
    metadata = np.zeros((0, width), np.float32) if config.model.fusion else None
    batches = config.optimizer.accumulate_steps  # an epoch's, one step at least
    course = course_of(config, batches, Stage(number=stage))
    return build_loop(run, subject.fold, course, metadata), width


def _specs(label: LabelInfo, batch: int, size_px: int, metadata_width: int) -> Any:
    """A batch as `pipeline.stream.batches` gives it."""
    inputs = {
        "image": tf.TensorSpec([batch, size_px, size_px, 3], tf.uint8),
        "row": tf.TensorSpec([batch], tf.int64),
    }
    if metadata_width:
        inputs["metadata"] = tf.TensorSpec([batch, metadata_width])
    target = (
        tf.TensorSpec([batch, len(label.classes)])
        if label.kind == "multilabel"
        else tf.TensorSpec([batch], tf.int64)
    )
    return inputs, {"target": target}, tf.TensorSpec([batch])
