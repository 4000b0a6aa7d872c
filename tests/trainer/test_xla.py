"""A TPU runs what XLA compiles: the step of one replica, with static shapes, as one program."""

import re

import numpy as np
import pytest
import tensorflow as tf

from pipeline.records.label import LabelInfo
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.precision import set_precision
from trainer.preflight.host_ops import host_ops

LABEL = LabelInfo(kind="multiclass", classes=("a", "b", "c"), positive=("c",))
BATCH = (
    {"image": tf.TensorSpec([4, 64, 64, 3], tf.uint8), "row": tf.TensorSpec([4], tf.int64)},
    {"target": tf.TensorSpec([4], tf.int64)},
    tf.TensorSpec([4], tf.float32),
)


def make_loop(backbone, batch_norm="replica", **settings):
    model = build_model(
        ModelConfig(backbone=backbone, batch_norm=batch_norm),
        image_size_px=64,
        metadata_width=0,
        outputs=3,
    )
    config = OptimizerConfig(kind="adamw", weight_decay=1e-2, clip_norm=1.0)
    return Loop(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(config, np.full(9, 1e-3, np.float32), model.trainable_variables),
        losses=(LossConfig(kind="softmax_focal"),),
        batch_size=4,
        steps_per_call=2,
        clip_norm=1.0,
        label=LABEL,
        ema_decay=0.99,
        jit_compile=True,
        **settings,
    )


def one_step(loop):
    """A replica's step as a function of its flat tensors, as XLA wants it, and their specs."""
    specs = [*tf.nest.flatten(BATCH), tf.TensorSpec([], tf.int64)]

    def step(*tensors):
        *batch, number = tensors
        return loop.replica_step(*tf.nest.pack_sequence_as(BATCH, batch), number, is_last=True)

    return tf.autograph.experimental.do_not_convert(step), specs


def dynamic_shapes(function, specs):
    """Those of the compiled program whose size is only bounded, as `f32[<=4]`."""
    program = tf.function(function, jit_compile=True).experimental_get_compiler_ir(*specs)
    return re.findall(r"\w+\[[^\]]*<=[^\]]*\]", program(stage="hlo"))


def refused_by_xla(function, specs):
    return host_ops(tf.function(function).get_concrete_function(*specs).graph)


@pytest.mark.parametrize(
    "backbone", ["small-cnn", pytest.param("efficientnet-b0", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_step_has_no_op_that_xla_refuses_and_no_dynamic_shape(backbone, precision):
    set_precision(precision)
    try:
        step = one_step(make_loop(backbone, precision=precision))
        assert refused_by_xla(*step) == []
        assert dynamic_shapes(*step) == []
    finally:
        set_precision("float32")


def test_an_op_that_xla_has_no_kernel_for_is_named():
    def warp(image):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image,
            transforms=tf.ones([1, 8]),
            output_shape=[4, 4],
            fill_value=0.0,
            interpolation="NEAREST",
        )

    refused = refused_by_xla(warp, [tf.TensorSpec([1, 4, 4, 3])])
    assert any(name.startswith("ImageProjectiveTransformV3") for name in refused), refused
    assert all("(test_xla.py:" in name for name in refused), refused


def test_a_shape_that_depends_on_values_is_told():
    def positives(values):
        return tf.boolean_mask(values, values > 0)

    assert dynamic_shapes(positives, [tf.TensorSpec([4])])


@pytest.mark.parametrize(
    "backbone", ["small-cnn", pytest.param("efficientnet-b0", marks=pytest.mark.slow)]
)
def test_the_compiled_step_trains(backbone):
    def one_batch(context):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
        batch = (
            {"image": image, "row": np.arange(4)},
            {"target": np.array([0, 1, 2, -1])},
            np.ones(4, np.float32),
        )
        return tf.data.Dataset.from_tensors(batch).repeat()

    loop = make_loop(backbone)
    steps = [loop.train(loop.iterate(one_batch), first, 2) for first in (0, 2, 4)]
    losses = np.concatenate([call.losses for call in steps])
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert steps[0].scores.sum() == 2 * 3  # the example of unknown class is not counted
