"""`trainer.models.fused_norm`: fewer passes, the same numbers."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.models import fused_norm
from trainer.models.fused_norm import fuse_norms

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(0.5, 1.0, (6, 5, 4, 3)).astype(np.float32)
TOWARDS = RNG.normal(size=(6, 4)).astype(np.float32)


def make_model(*, is_fused, activation="swish", dtype="float32"):
    """Convolution, BatchNorm, activation, squeeze-and-excite, twice; then the mean over places."""
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    policy = {"dtype": dtype}
    image = tf.keras.Input((5, 4, 3))
    features = image
    for _ in range(2):
        features = layers.Conv2D(4, 1, use_bias=False, **policy)(features)
        features = layers.BatchNormalization(epsilon=1e-3, momentum=0.8, **policy)(features)
        features = layers.Activation(activation, **policy)(features)
        squeezed = layers.GlobalAveragePooling2D(**policy)(features)
        squeezed = layers.Reshape((1, 1, 4), **policy)(squeezed)
        share = layers.Conv2D(4, 1, activation="sigmoid", **policy)(squeezed)
        features = layers.Multiply(**policy)([features, share])
    features = layers.BatchNormalization(**policy)(features)
    features = layers.Activation(activation, **policy)(features)
    model = tf.keras.Model(image, layers.GlobalAveragePooling2D(**policy)(features))
    for layer in model.layers:  # at their start they would hide what is left out
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(some_of(layer.gamma) + 1)
            layer.beta.assign(some_of(layer.beta))
            layer.moving_mean.assign(some_of(layer.moving_mean))
    if is_fused:
        fuse_norms(model)
    return model


def some_of(variable):
    return np.random.default_rng(5).normal(size=tuple(variable.shape)) * 0.3


def train_once(model, images=IMAGES):
    """Loss, its gradients by images and weights, and the moving statistics after one step."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = tf.cast(model(images, training=True), tf.float32)
        loss = tf.reduce_sum(outputs * TOWARDS)
    gradients = tape.gradient(loss, [images, *model.trainable_weights])
    moving = [weight.numpy() for weight in model.non_trainable_weights]
    return float(loss), [gradient.numpy() for gradient in gradients], moving


def test_swish_is_squeezed_and_excited_in_functions_of_their_own_and_relu_is_not(monkeypatch):
    called = []
    for name in ("_pooled", "_excited"):
        function = getattr(fused_norm, name)
        monkeypatch.setattr(
            fused_norm, name, lambda *args, f=function, n=name: called.append(n) or f(*args)
        )
    make_model(is_fused=True)(IMAGES, training=True)
    assert called == ["_pooled", "_excited"] * 2 + ["_pooled"]
    called.clear()
    make_model(is_fused=True, activation="relu")(IMAGES, training=True)
    make_model(is_fused=True)(IMAGES, training=False)
    assert called == []


@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_fused_layers_give_the_loss_gradients_and_statistics_of_keras(activation):
    fused, plain = (
        train_once(make_model(is_fused=is_fused, activation=activation))
        for is_fused in (True, False)
    )
    assert fused[0] == pytest.approx(plain[0], rel=1e-5)
    for ours, theirs in zip(fused[1], plain[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-4 * np.abs(plain[1][0]).max())
    for ours, theirs in zip(fused[2], plain[2], strict=True):
        # tf_keras takes the variance over N - 1.
        np.testing.assert_allclose(ours, theirs, rtol=4e-3, atol=1e-5)


def test_in_bfloat16_they_are_as_near_to_float32_as_keras():
    exact = train_once(make_model(is_fused=False))
    ours, theirs = (
        train_once(make_model(is_fused=is_fused, dtype="mixed_bfloat16"))
        for is_fused in (True, False)
    )

    def distance(found):
        return sum(
            np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
            for gradient, reference in zip(found[1], exact[1], strict=True)
            if np.linalg.norm(reference) > 1e-4
        )

    assert distance(ours) < 1.2 * distance(theirs)


def test_a_mean_that_dwarfs_the_deviation_loses_no_digits_once_the_moving_mean_is_near():
    tf.keras.utils.set_random_seed(3)
    image = tf.keras.Input((5, 4, 3))
    model = tf.keras.Model(image, tf.keras.layers.BatchNormalization(epsilon=1e-6)(image))
    fuse_norms(model)
    images = IMAGES * 0.01 + 300
    model.layers[-1].moving_mean.assign([300.0] * 3)
    outputs = model(images, training=True).numpy()
    exact = images.astype(np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-6)
    np.testing.assert_allclose(outputs, exact, atol=0.02)  # the inputs are rounded to 3e-5


def test_outside_training_they_are_keras_own_to_the_last_bit():
    fused, plain = (make_model(is_fused=is_fused) for is_fused in (True, False))
    np.testing.assert_array_equal(fused(IMAGES, training=False), plain(IMAGES, training=False))


def test_frozen_layers_keep_their_statistics():
    model = make_model(is_fused=True)
    for layer in model.layers:
        layer.trainable = False
    before = [weight.numpy() for weight in model.weights]
    np.testing.assert_array_equal(model(IMAGES, training=True), model(IMAGES, training=False))
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
