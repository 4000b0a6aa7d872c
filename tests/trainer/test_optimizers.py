"""`trainer.optimizers`: steps against formulas in numpy, the rate's fraction, and the settings."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from trainer.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer

START, GRADIENTS = np.array([1.0, -2.0, 3.0]), np.random.default_rng(0).normal(size=(6, 3))
RATE = 0.01


def make(rates=None, variable=None, **settings):
    variable = tf.Variable(np.float32(START), name="kernel") if variable is None else variable
    rates = np.full(10, RATE, np.float32) if rates is None else np.float32(rates)
    return build_optimizer(OptimizerConfig(**settings), rates, [variable]), variable


def weights_after(gradients=GRADIENTS, **settings):
    optimizer, variable = make(**settings)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    return variable.numpy()


def adam(beta_1=0.9, beta_2=0.999, epsilon=1e-7, decay=0.0):
    """Kingma and Ba 2015 (arXiv 1412.6980, section 2's last form, whose epsilon Keras takes)."""
    w, m, v = START.copy(), 0.0, 0.0
    for t, g in enumerate(GRADIENTS, 1):
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        rate = RATE * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        w = w * (1 - RATE * decay) - rate * m / (np.sqrt(v) + epsilon)
    return w


def nesterov(momentum):
    w, velocity = START.copy(), 0.0
    for g in GRADIENTS:
        velocity = momentum * velocity - RATE * g
        w = w + momentum * velocity - RATE * g
    return w


def rmsprop(rho, momentum, epsilon):
    w, square, velocity = START.copy(), 0.0, 0.0
    for g in GRADIENTS:
        square = rho * square + (1 - rho) * g**2
        velocity = momentum * velocity + RATE * g / np.sqrt(square + epsilon)
        w = w - velocity
    return w


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "adam"}, adam()),
        ({"kind": "adam", "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1}, adam(0.5, 0.9, 0.1)),
        ({"kind": "adamw"}, adam()),
        ({"kind": "adamw", "weight_decay": 0.5}, adam(decay=0.5)),
        ({"kind": "sgd"}, START - RATE * GRADIENTS.sum(axis=0)),
        ({"kind": "momentum"}, nesterov(0.9)),
        ({"kind": "momentum", "momentum": 0.5}, nesterov(0.5)),
        ({"kind": "rmsprop"}, rmsprop(0.9, 0.9, 1e-3)),
        ({"kind": "rmsprop", "rho": 0.5, "momentum": 0.0}, rmsprop(0.5, 0.0, 1e-3)),
    ],
)
def test_an_optimizer_takes_the_steps_of_its_formula(settings, expected):
    np.testing.assert_allclose(weights_after(**settings), expected, rtol=1e-5, atol=1e-6)


def test_the_rate_is_the_tables_times_the_fraction_without_compiling_anew():
    optimizer, variable = make(rates=[0.1, 0.2, 0.3, 0.4], kind="sgd")
    traces = []

    @tf.function
    def step():
        traces.append(1)
        optimizer.apply_gradients([(tf.ones(3), variable)])

    moved = []
    for fraction in (1.0, 0.5, 0.5, 0.1, 0.1):
        before = variable.numpy()
        optimizer.rate_fraction.assign(fraction)
        step()
        moved.append((before - variable.numpy())[0])
    np.testing.assert_allclose(moved, [0.1, 0.1, 0.15, 0.04, 0.04], rtol=1e-5)
    assert len(traces) == 1


def test_weight_decay_follows_the_fraction():
    optimizer, variable = make(kind="adamw", weight_decay=1.0)
    optimizer.rate_fraction.assign(0.5)
    optimizer.apply_gradients([(tf.zeros(3), variable)])
    np.testing.assert_allclose(variable.numpy(), START * (1 - 0.5 * RATE), rtol=1e-6)


def test_the_fraction_is_saved_with_the_optimizer(tmp_path):
    saved, variable = make(kind="adam")
    saved.apply_gradients([(tf.ones(3), variable)])
    saved.rate_fraction.assign(0.25)
    path = tf.train.Checkpoint(optimizer=saved).write(str(tmp_path / "step"))
    restored, variable = make(kind="adam")
    tf.train.Checkpoint(optimizer=restored).read(path).assert_existing_objects_matched()
    assert float(restored.rate_fraction) == 0.25
    assert int(restored.iterations) == 1


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_step_compiles_whole_with_xla(kind):
    expected = weights_after(kind=kind, weight_decay=0.1, gradients=GRADIENTS[:2])
    optimizer, variable = make(kind=kind, weight_decay=0.1)

    @tf.function(jit_compile=True)
    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    for gradient in GRADIENTS[:2]:
        step(tf.constant(gradient, tf.float32))
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_a_rate_per_256_grows_with_the_examples_of_an_applied_step():
    config = OptimizerConfig(learning_rate=1e-3, learning_rate_per_256=True)
    assert config.resolved(256).learning_rate == pytest.approx(1e-3)
    assert config.resolved(64).learning_rate == pytest.approx(2.5e-4)
    accumulating = OptimizerConfig(
        learning_rate=1e-3, learning_rate_per_256=True, accumulate_steps=8
    )
    assert accumulating.resolved(64).learning_rate == pytest.approx(2e-3)


@pytest.mark.parametrize("per_256", [False, True])
def test_a_resolved_optimizer_says_its_defaults_and_resolves_to_itself(per_256):
    resolved = OptimizerConfig(kind="rmsprop", learning_rate_per_256=per_256).resolved(64)
    assert (resolved.rho, resolved.momentum, resolved.epsilon) == (0.9, 0.9, 1e-3)
    assert resolved.beta_1 is None
    assert resolved.resolved(64) == resolved


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "rmspop"}, "unknown kind 'rmspop'; did you mean 'rmsprop'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0.0"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0 and finite, got 0.0"),
        ({"beta_2": 1.0}, r"beta_2 must be in \[0, 1\), got 1.0"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\), got 1.0"),
        ({"accumulate_steps": 0}, "accumulate_steps must be 1 or more, got 0"),
        (
            {"kind": "adam", "momentum": 0.9},
            "momentum must be left out with kind 'adam', got 0.9; it belongs to momentum, rmsprop",
        ),
        ({"kind": "sgd", "epsilon": 1e-3}, "it belongs to adam, adamw, rmsprop"),
    ],
)
def test_settings_out_of_range_or_of_another_kind_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)


@pytest.mark.slow
def test_all_of_this_holds_on_tf_keras_as_well():
    pytest.importorskip("tf_keras")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", __file__]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    )
    assert done.returncode == 0, done.stdout[-2000:]
