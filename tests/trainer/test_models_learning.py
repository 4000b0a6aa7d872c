"""Networks take steps that lead somewhere: each head and fusion learns, each EfficientNet moves."""

import numpy as np
import pytest
import tensorflow as tf

from records_factory import write_toy_records
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.task import main

RNG = np.random.default_rng(0)
TARGETS = np.arange(16) % 2
IMAGES = RNG.integers(0, 256, (16, 32, 32, 3), np.uint8)
METADATA = RNG.normal(size=(16, 5)).astype(np.float32)


def make_loop(rate=3e-3, **settings):
    tf.keras.utils.set_random_seed(1)
    config = ModelConfig(**settings)
    model = build_model(config, image_size_px=32, metadata_width=5, outputs=1)
    optimizer = OptimizerConfig(kind="adam", learning_rate=rate)
    return Loop(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(
            optimizer, np.full(200, rate, np.float32), model.trainable_variables
        ),
        losses=(LossConfig(kind="bce"),),
        batch_size=8,
        steps_per_call=20,
        clip_norm=None,
    )


def batches(repeats):
    inputs = {"image": IMAGES, "metadata": METADATA, "row": np.arange(16)}
    data = inputs, {"target": TARGETS}, np.ones(16, np.float32)

    def make(context):
        size = context.get_per_replica_batch_size(8)
        return tf.data.Dataset.from_tensor_slices(data).repeat(repeats).batch(size)

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "max"},
        {"fusion": "concat", "metadata_dropout": 0.2, "dropout": 0.5, "dropout_samples": 5},
        {"fusion": "film", "metadata_column_dropout": 0.2, "pooling": "gem"},
    ],
    ids=["max", "concat", "film"],
)
def test_each_head_and_fusion_comes_to_know_sixteen_images_of_noise(settings):
    loop = make_loop(backbone="small-cnn", **settings)
    iterator = loop.iterate(batches(repeats=None))
    for step in range(0, 200, 20):
        losses = loop.train(iterator, step, 20).losses
        rows, logits = loop.predict(batches(repeats=1))
        if np.array_equal(logits[:, 0] > 0, TARGETS[rows] == 1):
            return
    pytest.fail(f"16 images must be known after 200 steps, got a loss of {losses[-1]:.3f}")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["keras", "efficientnet"])
@pytest.mark.parametrize("variant", range(8))
def test_every_efficientnet_takes_a_finite_step_that_moves_its_weights(variant, backend):
    if backend == "efficientnet":
        pytest.importorskip(
            "efficientnet", reason="efficientnet is not installed; make install does"
        )
    loop = make_loop(backbone=f"efficientnet-b{variant}", backend=backend, fusion="concat")
    before = [weight.numpy() for weight in loop.model.trainable_variables]
    assert np.isfinite(loop.train(loop.iterate(batches(repeats=1)), 0, 1).losses).all()
    after = [weight.numpy() for weight in loop.model.trainable_variables]
    assert all(np.isfinite(weight).all() for weight in after)
    moved = [(old != new).any() for old, new in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.95  # a skipped block's weights may stay


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "kind", "loss"),
    [
        *(("small-cnn", kind, "cross_entropy") for kind in ("binary", "multiclass", "multilabel")),
        *(("small-cnn", kind, "focal") for kind in ("binary", "multiclass", "multilabel")),
        *(("efficientnet-b0", kind, "cross_entropy") for kind in ("binary", "multiclass")),
        *(("efficientnet-b0", kind, "focal") for kind in ("binary", "multilabel")),
        *((f"efficientnet-b{n}", "binary", "cross_entropy") for n in (1, 2, 3)),
    ],
)
def test_networks_come_to_know_64_images_of_64_px(tmp_path, backbone, kind, loss):
    write_toy_records(tmp_path / "records", rows=120, size_px=64, kind=kind)
    # In one batch: BatchNorm's moving statistics are then those that it trained with.
    settings = {"model.backbone": backbone, "loss.kind": loss, "train.batch_size": 64}
    flags = [flag for item in settings.items() for flag in ("--set", "{}={}".format(*item))]
    assert main(["--records", f"{tmp_path}/records", *flags, "--overfit", "64"]) == 0
