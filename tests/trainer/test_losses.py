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
BITS_3 = RNG.integers(0, 2, (16, 3)).astype(np.float32)


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


@pytest.mark.parametrize(
    ("gamma_positive", "gamma_negative", "clip"),
    [(0.0, 4.0, 0.05), (1.0, 4.0, 0.0), (0.5, 0.5, 0.2), (0.0, 0.0, 0.3), (2.0, 1.0, 1e-9)],
)
def test_asymmetric_is_equation_7_of_its_paper_averaged_over_the_outputs(
    gamma_positive, gamma_negative, clip
):
    p = sigmoid(LOGITS_3)
    shifted = np.maximum(p - clip, 0)
    of_positive = (1 - p) ** gamma_positive * np.log(p)
    of_negative = shifted**gamma_negative * np.log(1 - shifted)
    expected = -np.where(BITS_3 == 1, of_positive, of_negative).mean(axis=1)
    config = LossConfig(
        kind="asymmetric", gamma_positive=gamma_positive, gamma_negative=gamma_negative, clip=clip
    )
    np.testing.assert_allclose(losses(config, LOGITS_3, BITS_3), expected, rtol=1e-4, atol=1e-6)


def test_asymmetric_without_gammas_and_clip_is_cross_entropy():
    config = LossConfig(kind="asymmetric", gamma_positive=0.0, gamma_negative=0.0, clip=0.0)
    bce = losses(LossConfig(kind="bce"), LOGITS_3, BITS_3)
    np.testing.assert_allclose(losses(config, LOGITS_3, BITS_3), bce, rtol=1e-6)


def test_a_negative_below_the_clip_costs_nothing():
    logits = tf.constant([[-3.5], [-2.0]])  # probabilities 0.03 and 0.12
    with tf.GradientTape() as tape:
        tape.watch(logits)
        config = LossConfig(kind="asymmetric", gamma_negative=1.0, clip=0.05)
        loss = example_losses(config, logits, tf.constant([0, 0]), tf.ones(2))
    np.testing.assert_allclose(loss[0], 0, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], 0, atol=1e-12)
    assert loss[1] > 1e-3


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


def test_soft_targets_mix_the_losses_of_their_classes():
    soft = RNG.dirichlet([1, 1, 1], 16).astype(np.float32)
    expected = -(soft * np.log(softmax(LOGITS_3))).sum(axis=1)
    np.testing.assert_allclose(losses(LossConfig(kind="ce"), LOGITS_3, soft), expected, rtol=1e-4)


def test_a_mask_between_0_and_1_is_a_weight():
    mask = RNG.random(16).astype(np.float32)
    for kind, logits, targets in (("bce", LOGITS_3, BITS_3), ("ce", LOGITS_3, INDICES)):
        whole = losses(LossConfig(kind=kind), logits, targets)
        masked = losses(LossConfig(kind=kind), logits, targets, mask)
        np.testing.assert_allclose(masked, whole * mask, rtol=1e-5)


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


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_without_a_known_example_has_no_loss_and_no_gradient(kind):
    logits = tf.constant(LOGITS_3[:2])
    over_softmax = LOSSES[kind].over == "softmax"
    targets = tf.constant([-1, 1], tf.int64) if over_softmax else tf.constant([[-1.0] * 3, [1] * 3])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = example_losses(LossConfig(kind=kind), logits, targets, tf.constant([1.0, 0.0]))
    np.testing.assert_array_equal(loss, [0, 0])
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("kind", LOSSES)
def test_logits_of_half_precision_lose_no_more_than_their_own_rounding(kind, dtype):
    targets = INDICES if LOSSES[kind].over == "softmax" else BITS_3
    halves = tf.cast(LOGITS_3 * 4, dtype)
    from_half = losses(LossConfig(kind=kind), halves, targets)
    assert from_half.dtype == np.float32
    from_same = losses(LossConfig(kind=kind), tf.cast(halves, tf.float32), targets)
    np.testing.assert_array_equal(from_half, from_same)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_cross_entropy_of_half_precision_logits_is_the_float64_formula(dtype):
    halves = tf.cast(LOGITS_3 * 4, dtype)
    exact = tf.cast(halves, tf.float64).numpy()
    bce = np.logaddexp(0, -exact) * BITS_3 + np.logaddexp(0, exact) * (1 - BITS_3)
    np.testing.assert_allclose(
        losses(LossConfig(kind="bce"), halves, BITS_3), bce.mean(axis=1), rtol=1e-5
    )
    ce = np.log(np.exp(exact).sum(axis=1)) - exact[np.arange(16), INDICES]
    np.testing.assert_allclose(
        losses(LossConfig(kind="ce"), halves, INDICES), ce, rtol=1e-5, atol=1e-6
    )


HUGE = [
    ("sigmoid_focal", {"gamma": 0.0}),
    ("sigmoid_focal", {"gamma": 0.5}),
    ("sigmoid_focal", {"gamma": 2.0}),
    ("softmax_focal", {"gamma": 0.0}),
    ("softmax_focal", {"gamma": 0.5}),
    ("softmax_focal", {"gamma": 2.0}),
    ("asymmetric", {}),
    ("asymmetric", {"gamma_negative": 0.5, "clip": 0.0}),
    ("asymmetric", {"gamma_negative": 0.5}),
    ("asymmetric", {"gamma_negative": 0.5, "clip": 1e-9}),
    ("sigmoid_f1", {}),
    ("softmax_f1", {}),
]


@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize(("kind", "settings"), HUGE)
def test_huge_logits_give_finite_losses_and_gradients(kind, settings, size):
    over_softmax = LOSSES[kind].over == "softmax"
    rows = [[size, 0.0, -size], [-size, 0.0, size]] if over_softmax else [[size], [-size]]
    logits = tf.constant(rows)
    for target in (0, 1):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            config = LossConfig(kind=kind, **settings)
            loss = example_losses(config, logits, tf.constant([target] * 2), tf.ones(2))
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, logits)).all()
        if "focal" in kind:
            assert loss.numpy().max() >= size * 0.99


def test_soft_f1_is_scikit_learns_at_hard_predictions():
    from sklearn.metrics import f1_score

    predicted = RNG.integers(0, 2, (16, 3))
    expected = 1 - f1_score(BITS_3, predicted, average="macro")
    got = losses(LossConfig(kind="sigmoid_f1"), np.float32(predicted * 200 - 100), BITS_3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    predicted = RNG.integers(0, 3, 16)
    expected = 1 - f1_score(INDICES, predicted, average="macro")
    got = losses(LossConfig(kind="softmax_f1"), np.float32(np.eye(3)[predicted] * 200), INDICES)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_soft_f1_counts_with_probabilities_and_weights():
    mask, p = RNG.random(16).astype(np.float32), sigmoid(LOGITS_3)
    parts = p * BITS_3, (1 - p) * BITS_3, p * (1 - BITS_3)
    hits, missed, false = ((mask[:, None] * part).sum(axis=0) for part in parts)
    expected = 1 - (2 * hits / (2 * hits + missed + false)).mean()
    got = losses(LossConfig(kind="sigmoid_f1"), LOGITS_3, BITS_3, mask)
    np.testing.assert_allclose(got, expected * mask, rtol=1e-4)


def test_perfect_hard_predictions_have_a_soft_f1_loss_of_0_also_with_an_absent_class():
    bits = BITS_3.copy()
    bits[:, 1] = 0
    got = losses(LossConfig(kind="sigmoid_f1"), bits * 200 - 100, bits)
    np.testing.assert_allclose(got, 0, atol=1e-6)
    two_of_three = INDICES % 2
    logits = np.float32(np.eye(3)[two_of_three] * 200)
    np.testing.assert_allclose(
        losses(LossConfig(kind="softmax_f1"), logits, two_of_three), 0, atol=1e-6
    )


def test_soft_f1_falls_along_its_gradient():
    logits, config = tf.Variable(LOGITS_3), LossConfig(kind="sigmoid_f1")
    values = []
    for _ in range(100):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(example_losses(config, logits, BITS_3, np.ones(16, np.float32)))
        logits.assign_sub(20 * tape.gradient(loss, logits))
        values.append(float(loss))
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_compiles_whole_with_xla_and_gives_the_same(kind):
    targets = tf.constant(INDICES if LOSSES[kind].over == "softmax" else BITS_3)
    arguments = (LossConfig(kind=kind), tf.constant(LOGITS_3), targets, tf.ones(16))
    compiled = tf.function(example_losses, jit_compile=True)
    np.testing.assert_allclose(
        compiled(*arguments), example_losses(*arguments), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sigmoid_focl"}, "unknown kind 'sigmoid_focl'; did you mean 'sigmoid_focal'"),
        (
            {"kind": "bce", "gamma": 2.0},
            "gamma must be left out with kind 'bce', got 2.0; "
            "it belongs to focal, sigmoid_focal, softmax_focal",
        ),
        ({"kind": "focal", "clip": 0.1}, "clip must be left out .* it belongs to asymmetric"),
        ({"kind": "soft_f1", "class_weights": "balanced"}, "class_weights must be left out"),
        ({"kind": "asymmetric", "label_smoothing": 0.1}, "label_smoothing must be left out"),
        ({"kind": "sigmoid_focal", "alpha": 1.5}, r"alpha must be in \(0, 1\), .* got 1.5"),
        ({"kind": "bce", "class_weights": "balance"}, "'balanced', or weights .* got 'balance'"),
        ({"kind": "bce", "class_weights": (1.0, -1.0)}, r"weights of 0 or more, got \[1.0, -1.0\]"),
        ({"kind": "asymmetric", "clip": 1.0}, r"clip must be in \[0, 1\), got 1.0"),
        ({"kind": "bce", "head": "other"}, "head must be 'target'"),
        (
            {"kind": "focal", "alpha": 0.25, "class_weights": "balanced"},
            "alpha and class_weights must not be given together",
        ),
    ],
)
def test_a_loss_out_of_range_or_with_anothers_setting_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "label", "message"),
    [
        (
            {"kind": "bce"},
            MULTICLASS,
            "one of cross_entropy, focal, soft_f1, ce, softmax_focal, softmax_f1 for a multiclass",
        ),
        (
            {"kind": "ce"},
            BINARY,
            "focal, soft_f1, bce, sigmoid_focal, asymmetric, sigmoid_f1 for a binary",
        ),
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
    [
        ("cross_entropy", "bce", "ce"),
        ("focal", "sigmoid_focal", "softmax_focal"),
        ("soft_f1", "sigmoid_f1", "softmax_f1"),
    ],
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


def test_a_fitted_loss_says_its_defaults_and_fits_again_as_it_is():
    fitted = fit_loss(LossConfig(kind="focal"), BINARY, "here")
    assert (fitted.gamma, fitted.label_smoothing, fitted.alpha) == (2.0, 0.0, None)
    assert fit_loss(fitted, BINARY, "here") == fitted
