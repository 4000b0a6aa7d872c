"""`trainer.stages.freezing`: what moves in a stage, and how fast; on both Keras."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import SettingsError
from trainer.loop import Loop
from trainer.losses import LossConfig
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.dropout import dropout_seeded
from trainer.models.groups import layer_groups
from trainer.optimizers import OptimizerConfig, build_optimizer
from trainer.stages.config import GroupRates, StageConfig
from trainer.stages.freezing import check_blocks, freeze, rate_factors

RNG = np.random.default_rng(0)
IMAGES, METADATA = RNG.random((8, 32, 32, 3), np.float32), np.eye(8, 5, dtype=np.float32)
ROWS, TARGETS = np.arange(8), RNG.integers(0, 2, 8)


def build(backbone="small-cnn", fusion="concat", **settings):
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(3)
    config = ModelConfig(
        backbone=backbone, fusion=fusion, fusion_units=(4,), dropout=0.0, **settings
    )
    return build_model(config, image_size_px=32, metadata_width=5, outputs=1)


def train(model, stage, steps=3, jit_compile=False, **optimizer):
    """The model after some steps in a stage, at rate 0.1 where nothing else is said."""
    freeze(model, stage)
    config = OptimizerConfig(**{"kind": "sgd", "learning_rate": 0.1, **optimizer})
    variables = model.trainable_variables
    rates = np.full(steps, config.learning_rate, np.float32)
    loop = Loop(
        strategy=tf.distribute.get_strategy(),
        model=model,
        optimizer=build_optimizer(config, rates, variables, rate_factors(model, stage.group_rates)),
        losses=(LossConfig(kind="bce"),),
        batch_size=8,
        steps_per_call=steps,
        clip_norm=1.0,
        jit_compile=jit_compile,
    )
    inputs = {"image": IMAGES, "metadata": METADATA, "row": ROWS}
    data = (inputs, {"target": TARGETS}, np.ones(8, np.float32))
    batches = tf.data.Dataset.from_tensor_slices(data).batch(8, drop_remainder=True).repeat()
    loop.train(loop.iterate(lambda context: batches), 0, steps)
    return loop


def values_by_group(model):
    return {
        name: [weight.numpy() for layer in layers for weight in layer.weights]
        for name, layers in layer_groups(model).items()
        if any(layer.weights for layer in layers)
    }


def moved_groups(model, stage):
    before = values_by_group(model)
    train(model, stage)
    after = values_by_group(model)
    return {
        name
        for name, values in before.items()
        if any((old != new).any() for old, new in zip(values, after[name], strict=True))
    }


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (StageConfig(), {"block1", "block2", "block3", "block4", "block5", "fusion", "head"}),
        (StageConfig(freeze="backbone"), {"fusion", "head"}),
        (StageConfig(freeze="backbone", unfreeze_blocks=2), {"block4", "block5", "fusion", "head"}),
    ],
)
def test_frozen_layers_keep_every_weight_and_statistic_and_the_others_move(stage, expected):
    assert moved_groups(build(), stage) == expected


def test_a_frozen_backbone_sees_in_training_what_it_sees_in_prediction():
    inputs = {"image": IMAGES}
    model = build("conv-75-125", fusion=None)  # a dropout in each block
    with dropout_seeded(tf.constant([1, 2], tf.int64)):
        dropped = model(inputs, training=True)["target"].numpy()
        freeze(model, StageConfig(freeze="backbone"))
        frozen = model(inputs, training=True)["target"].numpy()
    predicted = model(inputs, training=False)["target"].numpy()
    np.testing.assert_allclose(frozen, predicted, atol=1e-6)
    assert np.abs(dropped - predicted).max() > 1e-3


def test_more_blocks_than_the_backbone_has_are_refused_before_the_first_stage():
    stages = (StageConfig(epochs=1), StageConfig(freeze="backbone", unfreeze_blocks=7))
    message = "stage.1.unfreeze_blocks must be 6 or less .*stem, block1, .*got 7"
    with pytest.raises(SettingsError, match=message):
        check_blocks(build(), stages)


def deltas(rates, **optimizer):
    model = build()
    before = [variable.numpy() for variable in model.trainable_variables]
    train(model, StageConfig(group_rates=rates), steps=1, **optimizer)
    return [
        variable.numpy() - old
        for variable, old in zip(model.trainable_variables, before, strict=True)
    ]


@pytest.mark.parametrize(
    "optimizer",
    [{"kind": "sgd"}, {"kind": "adamw", "learning_rate": 1e-3, "weight_decay": 0.5}],
    ids=["sgd", "adamw"],
)
def test_a_groups_factor_scales_its_step_and_its_decay(optimizer):
    rates = GroupRates(backbone=0.25, fusion=0.5)
    usual, scaled = deltas(GroupRates(), **optimizer), deltas(rates, **optimizer)
    factors = rate_factors(build(), rates)
    assert sorted(set(factors)) == [0.25, 0.5, 1.0]
    for factor, one, other in zip(factors, usual, scaled, strict=True):
        # Of weights about 1: a step is exact to their last bit.
        np.testing.assert_allclose(other, factor * one, rtol=1e-4, atol=3e-7)
    assert max(np.abs(delta).max() for delta in usual) > 1e-4


def test_with_equal_factors_the_optimizer_is_one_and_with_others_it_is_saved_whole(tmp_path):
    assert not isinstance(train(build(), StageConfig()).optimizer, tf.Module)
    stage = StageConfig(group_rates=GroupRates(backbone=0.1))
    loop = train(build(), stage, kind="momentum")
    loop.optimizer.rate_fraction.assign(0.5)
    path = tf.train.Checkpoint(**loop.tracked()).write(str(tmp_path / "step"))
    other = train(build(), stage, kind="momentum", steps=1)
    tf.train.Checkpoint(**other.tracked()).read(path).assert_existing_objects_matched()
    assert [int(one.iterations) for one in other.optimizer.optimizers] == [3, 3]
    assert float(other.optimizer.rate_fraction) == 0.5


def test_the_step_of_a_stage_compiles_whole_with_xla():
    stage = StageConfig(
        freeze="backbone", unfreeze_blocks=1, group_rates=GroupRates(backbone=0.1, fusion=0.5)
    )
    plain, compiled = (build() for _ in range(2))
    train(plain, stage, kind="momentum")
    train(compiled, stage, kind="momentum", jit_compile=True)
    for one, other in zip(plain.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_another_size_is_predicted_with_the_weights_of_the_moment(ema_decay):
    model, copy = build(fusion=None), build(fusion=None)
    larger = build_model(
        ModelConfig(backbone="small-cnn"), image_size_px=48, metadata_width=0, outputs=1
    )
    loop = Loop(
        strategy=tf.distribute.get_strategy(),
        model=model,
        evaluation_model=larger,
        optimizer=build_optimizer(
            OptimizerConfig(kind="sgd"), np.full(9, 0.1, np.float32), model.trainable_variables
        ),
        losses=(LossConfig(kind="bce"),),
        batch_size=8,
        steps_per_call=2,
        clip_norm=None,
        ema_decay=ema_decay,
    )

    def batches(images):
        data = ({"image": images, "row": ROWS}, {"target": TARGETS}, np.ones(8, np.float32))
        return tf.data.Dataset.from_tensor_slices(data).batch(8, drop_remainder=True).repeat(2)

    seen = RNG.random((8, 48, 48, 3), np.float32)
    loop.train(loop.iterate(lambda context: batches(IMAGES)), 0, 2)
    rows, logits = loop.predict(lambda context: batches(seen).take(1))
    if ema_decay:
        with loop._average.swapped():
            copy.set_weights(model.get_weights())
    else:
        copy.set_weights(model.get_weights())
    features = [layer for layer in copy.layers if layer.name != "image"]
    expected = tf.constant(seen)
    for layer in features:  # a chain, whose layers take any size
        expected = layer(expected)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_array_equal(rows, ROWS)
