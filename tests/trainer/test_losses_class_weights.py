"""Class weights of `trainer.losses`: what they multiply, and what balanced ones are."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from pipeline.errors import SettingsError
from predictions_factory import BINARY, MULTICLASS, MULTILABEL
from trainer.losses import LossConfig, balance_classes, example_losses, fit_loss

RNG = np.random.default_rng(0)
LOGITS_1 = RNG.normal(size=(16, 1)).astype(np.float32)
LOGITS_2 = RNG.normal(size=(16, 2)).astype(np.float32)
LOGITS_3 = RNG.normal(size=(16, 3)).astype(np.float32)
BITS = RNG.integers(0, 2, 16)
BITS_2 = RNG.integers(0, 2, (16, 2)).astype(np.float32)
INDICES = RNG.integers(0, 3, 16)
BALANCED = LossConfig(kind="cross_entropy", class_weights="balanced")


def losses(config, logits, targets):
    return example_losses(config, logits, tf.constant(targets), tf.ones(len(logits))).numpy()


@pytest.mark.parametrize("kind", ["bce", "sigmoid_focal", "asymmetric"])
def test_a_binary_example_weighs_as_its_class(kind):
    plain = losses(LossConfig(kind=kind), LOGITS_1, BITS)
    weighted = losses(LossConfig(kind=kind, class_weights=(0.5, 3.0)), LOGITS_1, BITS)
    np.testing.assert_allclose(weighted, plain * np.where(BITS, 3.0, 0.5), rtol=1e-6)


@pytest.mark.parametrize("kind", ["ce", "softmax_focal"])
def test_an_example_of_several_classes_weighs_as_its_class(kind):
    weights = (0.5, 2.0, 7.0)
    plain = losses(LossConfig(kind=kind), LOGITS_3, INDICES)
    weighted = losses(LossConfig(kind=kind, class_weights=weights), LOGITS_3, INDICES)
    np.testing.assert_allclose(weighted, plain * np.array(weights)[INDICES], rtol=1e-6)


def test_each_output_of_several_labels_has_weights_of_its_own():
    pairs = ((0.5, 3.0), (1.0, 20.0))
    p = 1 / (1 + np.exp(-LOGITS_2.astype(np.float64)))
    each = -np.where(BITS_2 == 1, np.log(p), np.log(1 - p))
    weight = np.where(BITS_2 == 1, np.array(pairs)[:, 1], np.array(pairs)[:, 0])
    weighted = losses(LossConfig(kind="bce", class_weights=pairs), LOGITS_2, BITS_2)
    np.testing.assert_allclose(weighted, (each * weight).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("label", "classes"), [(BINARY, 2), (MULTICLASS, 3)])
def test_balanced_weights_are_scikit_learns_over_the_known_targets(label, classes):
    targets = RNG.choice(classes, 200, p=[0.9, *[0.1 / (classes - 1)] * (classes - 1)])
    expected = compute_class_weight("balanced", classes=np.arange(classes), y=targets)
    with_unknown = np.concatenate([targets, [-1] * 50])
    config = balance_classes(BALANCED, label, with_unknown, "fold 0")
    np.testing.assert_allclose(config.class_weights, expected, rtol=1e-12)
    assert fit_loss(config, label, "fold 0").class_weights == config.class_weights


def test_balanced_weights_of_several_labels_are_those_of_each_output_alone():
    targets = np.stack([np.arange(100) < 10, np.arange(100) % 2], axis=1).astype(np.float32)
    targets[90:, 1] = -1
    config = balance_classes(BALANCED, MULTILABEL, targets, "fold 0")
    np.testing.assert_allclose(config.class_weights, [[100 / 180, 5.0], [1.0, 1.0]])
    assert fit_loss(config, MULTILABEL, "fold 0").class_weights == config.class_weights


def test_balanced_weights_leave_the_mean_weight_of_an_example_at_1():
    targets = np.array([0] * 70 + [1] * 25 + [2] * 5)
    weights = np.array(balance_classes(BALANCED, MULTICLASS, targets, "").class_weights)
    assert weights[targets].mean() == pytest.approx(1.0)
    assert np.ptp(np.bincount(targets, weights[targets])) < 1e-9


def test_weights_that_were_given_stay():
    config = LossConfig(kind="bce", class_weights=(1.0, 5.0))
    assert balance_classes(config, BINARY, np.zeros(4, np.int64), "fold 0") is config


@pytest.mark.parametrize(
    ("label", "targets", "message"),
    [
        (BINARY, np.zeros(5, np.int64), "fold 3: loss.class_weights .* example of 'malignant'"),
        (
            MULTILABEL,
            np.array([[0.0, 1.0], [1.0, 1.0]]),
            "fold 3: nodule: loss.class_weights .* example of 'negatives'",
        ),
    ],
)
def test_a_class_without_a_training_example_cannot_be_balanced(label, targets, message):
    with pytest.raises(SettingsError, match=message):
        balance_classes(BALANCED, label, targets, "fold 3")


@pytest.mark.parametrize(
    ("weights", "label", "message"),
    [
        ((1.0, 2.0), MULTICLASS, r"must be 3 weights, one a class, or 'balanced', got \[1.0, 2.0"),
        ((1.0,), BINARY, "a weight of negatives and one of positives"),
        ((1.0, 2.0), MULTILABEL, "2 pairs, the weights of an output's negatives and positives"),
        (((1.0, 2.0), (1.0, 2.0)), BINARY, r"got \[\[1.0, 2.0\], \[1.0, 2.0\]\]"),
    ],
)
def test_weights_that_do_not_fit_the_label_are_refused(weights, label, message):
    with pytest.raises(SettingsError, match=message):
        fit_loss(LossConfig(kind="cross_entropy", class_weights=weights), label, "here")
