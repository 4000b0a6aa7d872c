"""`trainer.losses`: against formulas written out in numpy, and at the limits of float32."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import SettingsError
from predictions_factory import BINARY, MULTICLASS, MULTILABEL
from trainer.losses import LOSSES, LossConfig, example_losses, fit_loss

RNG = np.random.default_rng(0)
LOGITS_1 = RNG.normal(scale=3, size=(16, 1)).astype(np.float32)
LOGITS_3 = RNG.normal(scale=3, size=(16, 3)).astype(np.float32)
BITS = RNG.integers(0, 2, 16)
INDICES = RNG.integers(0, 3, 16)


def losses(config, logits, targets, mask=None):
    mask = np.ones(len(logits), np.float32) if mask is None else mask
    return example_losses(
        config, tf.constant(logits), tf.constant(targets), tf.constant(mask)
    ).numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(x):
    powers = np.exp(x.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.8])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_is_equation_5_of_its_paper(alpha, gamma):
    p = sigmoid(LOGITS_1)[:, 0]
    p_t = np.where(BITS == 1, p, 1 - p)
    alpha_t = 1.0 if alpha is None else np.where(BITS == 1, alpha, 1 - alpha)
    expected = -alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    config = LossConfig(kind="sigmoid_focal", alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(losses(config, LOGITS_1, BITS), expected, rtol=1e-4)


@pytest.mark.parametrize("alpha", [None, (1.0, 5.0, 2.0)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_weighs_the_true_class_by_what_it_lacks(alpha, gamma):
    p = softmax(LOGITS_3)[np.arange(16), INDICES]
    weight = np.ones(16) if alpha is None else np.array(alpha)[INDICES]
    config = LossConfig(kind="softmax_focal", alpha=alpha, gamma=gamma)
    expected = -weight * (1 - p) ** gamma * np.log(p)
    np.testing.assert_allclose(losses(config, LOGITS_3, INDICES), expected, rtol=1e-3, atol=1e-6)


def test_focal_without_gamma_and_alpha_is_cross_entropy():
    for focal, plain, logits, targets in (
        ("sigmoid_focal", "bce", LOGITS_1, BITS),
        ("softmax_focal", "ce", LOGITS_3, INDICES),
    ):
        np.testing.assert_array_equal(
            losses(LossConfig(kind=focal, gamma=0.0), logits, targets),
            losses(LossConfig(kind=plain), logits, targets),
        )


def test_plain_losses_equal_tensorflows_own():
    bce = tf.nn.sigmoid_cross_entropy_with_logits(BITS.astype(np.float32), LOGITS_1[:, 0])
    ce = tf.nn.sparse_softmax_cross_entropy_with_logits(INDICES, LOGITS_3)
    np.testing.assert_allclose(losses(LossConfig(kind="bce"), LOGITS_1, BITS), bce, rtol=1e-5)
    np.testing.assert_allclose(losses(LossConfig(kind="ce"), LOGITS_3, INDICES), ce, rtol=1e-5)


def test_gamma_is_two_unless_given():
    given = losses(LossConfig(kind="sigmoid_focal", gamma=2.0), LOGITS_1, BITS)
    np.testing.assert_array_equal(losses(LossConfig(kind="sigmoid_focal"), LOGITS_1, BITS), given)


def test_label_smoothing_is_cross_entropy_with_softened_targets():
    soft = BITS * 0.9 + 0.05
    p = sigmoid(LOGITS_1)[:, 0]
    expected = -(soft * np.log(p) + (1 - soft) * np.log(1 - p))
    config = LossConfig(kind="bce", label_smoothing=0.1)
    np.testing.assert_allclose(losses(config, LOGITS_1, BITS), expected, rtol=1e-4)
    soft = np.eye(3)[INDICES] * 0.7 + 0.1
    expected = -(soft * np.log(softmax(LOGITS_3))).sum(axis=1)
    config = LossConfig(kind="ce", label_smoothing=0.3)
    np.testing.assert_allclose(losses(config, LOGITS_3, INDICES), expected, rtol=1e-4)


def test_several_labels_are_averaged_and_unknown_ones_add_nothing():
    targets = RNG.integers(-1, 2, (16, 3)).astype(np.float32)
    p = sigmoid(LOGITS_3)
    each = -np.where(targets == 1, np.log(p), np.log(1 - p)) * (targets >= 0)
    np.testing.assert_allclose(
        losses(LossConfig(kind="bce"), LOGITS_3, targets), each.mean(axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_masked_and_unlabelled_examples_give_no_loss_and_no_gradient(kind):
    takes_one = LOSSES[kind].over == "softmax"
    logits = tf.constant(LOGITS_3[:4] if takes_one else LOGITS_1[:4])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        targets, mask = tf.constant([1, -1, 1, 0], tf.int64), tf.constant([1.0, 1.0, 0.0, 1.0])
        loss = example_losses(LossConfig(kind=kind), logits, targets, mask)
    gradient = np.abs(tape.gradient(loss, logits)).sum(axis=1)
    np.testing.assert_array_equal(loss.numpy() > 0, [True, False, False, True])
    np.testing.assert_array_equal(gradient > 0, [True, False, False, True])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("kind", ["sigmoid_focal", "softmax_focal"])
def test_huge_logits_give_finite_losses_and_gradients(kind, size, gamma):
    rows = (
        [[size, 0.0, -size], [-size, 0.0, size]] if kind == "softmax_focal" else [[size], [-size]]
    )
    logits = tf.constant(rows)
    for target in (0, 1):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = example_losses(
                LossConfig(kind=kind, gamma=gamma), logits, tf.constant([target] * 2), tf.ones(2)
            )
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, logits)).all()
        assert loss.numpy().max() >= size * 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sigmoid_focl"}, "unknown kind 'sigmoid_focl'; did you mean 'sigmoid_focal'"),
        ({"kind": "bce", "gamma": 2.0}, "alpha and gamma belong to focal losses"),
        ({"kind": "sigmoid_focal", "alpha": 1.5}, r"alpha must be in \(0, 1\), got 1.5"),
        ({"kind": "bce", "head": "other"}, "head must be 'target'"),
    ],
)
def test_a_loss_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "label", "message"),
    [
        ({"kind": "bce"}, MULTICLASS, "one of cross_entropy, focal, ce, softmax_focal for a multi"),
        ({"kind": "ce"}, BINARY, "one of cross_entropy, focal, bce, sigmoid_focal for a binary"),
        ({"kind": "focal", "alpha": (1.0, 2.0)}, MULTICLASS, "a list of 3 weights"),
        ({"kind": "focal", "alpha": 0.25}, MULTICLASS, "a list of 3 weights, got 0.25"),
        ({"kind": "sigmoid_focal", "alpha": (1.0, 2.0)}, BINARY, "one number"),
    ],
)
def test_a_loss_that_does_not_fit_the_label_is_refused(settings, label, message):
    with pytest.raises(SettingsError, match=message):
        fit_loss(LossConfig(**settings), label, "here")


@pytest.mark.parametrize(
    ("kind", "over_sigmoid", "over_softmax"),
    [("cross_entropy", "bce", "ce"), ("focal", "sigmoid_focal", "softmax_focal")],
)
def test_a_loss_for_every_label_becomes_that_of_the_label(kind, over_sigmoid, over_softmax):
    fitted = {
        label.kind: fit_loss(LossConfig(kind=kind, weight=0.5), label, "here")
        for label in (BINARY, MULTILABEL, MULTICLASS)
    }
    assert {term.weight for term in fitted.values()} == {0.5}
    assert {label: term.kind for label, term in fitted.items()} == {
        "binary": over_sigmoid, "multilabel": over_sigmoid, "multiclass": over_softmax
    }  # fmt: skip


def test_gamma_and_alpha_are_for_the_focal_loss_of_every_label_alone():
    assert LossConfig(kind="focal", gamma=1.0, alpha=0.25).gamma == 1.0
    with pytest.raises(ValueError, match="belong to focal losses, got them for 'cross_entropy'"):
        LossConfig(kind="cross_entropy", gamma=1.0)
