"""Mixup and cutmix: shares of pixels, targets and weights agree; unknown stays unknown; XLA."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pipeline.records.label import LabelInfo
from pipeline.stream.augment.geometry import Rotation
from pipeline.stream.augment.mix import CutMix, MixUp, beta, build_mix

BINARY = LabelInfo(kind="binary", classes=("benign", "malignant"))
MULTICLASS = LabelInfo(kind="multiclass", classes=("nv", "mel", "bkl"))
MULTILABEL = LabelInfo(kind="multilabel", classes=("mass", "nodule"))
OPS = [MixUp(alpha=1.0), CutMix(probability=1.0)]


def levels(count, size_px=8):
    """Flat images, each at its place of count, so that a pixel tells whose it is."""
    level = np.arange(count, dtype=np.float32) / count
    return tf.constant(np.broadcast_to(level[:, None, None, None], (count, size_px, size_px, 3)))


def mixed(ops, targets, *, label=BINARY, mask=None, seed=(1, 2), size_px=8, jit=False):
    targets = tf.constant(targets, tf.float32 if label.kind == "multilabel" else tf.int64)
    count = len(targets)
    inputs = {
        "image": levels(count, size_px),
        "row": tf.range(count, dtype=tf.int64),
        "metadata": tf.cast(tf.range(count), tf.float32)[:, None],
    }
    mask = tf.ones([count]) if mask is None else tf.constant(mask, tf.float32)
    mix = tf.function(build_mix(ops, label), jit_compile=jit)
    inputs, targets, mask = mix(inputs, {"target": targets}, mask, tf.constant(seed, tf.int64))
    return {k: v.numpy() for k, v in inputs.items()}, targets["target"].numpy(), mask.numpy()


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    u, v = np.random.default_rng(0).random((2, 40_000), np.float32)
    shares = beta(alpha, tf.constant(u), tf.constant(v)).numpy()
    assert np.isfinite(shares).all()
    places = np.linspace(0.01, 0.99, 50)
    found = np.searchsorted(np.sort(shares), places) / len(shares)
    np.testing.assert_allclose(found, stats.beta(alpha, alpha).cdf(places), atol=0.01)


def test_the_ends_of_the_draws_give_finite_shares():
    ends = tf.constant([0.0, 1 - 2**-24, 0.0, 1 - 2**-24]), tf.constant([0.0, 0.0, 0.25, 0.25])
    for alpha in (0.01, 1.0, 100.0):
        shares = beta(alpha, *ends).numpy()
        assert ((shares >= 0) & (shares <= 1)).all(), shares


@pytest.mark.parametrize("op", OPS, ids=["mixup", "cutmix"])
def test_targets_and_metadata_are_mixed_as_the_pixels_are(op):
    count = 12
    inputs, targets, mask = mixed([op], np.arange(count) % 2)
    own, other = np.arange(count), np.roll(np.arange(count), -1)
    level = inputs["image"].mean(axis=(1, 2, 3)) * count
    share = (level - other) / (own - other)
    assert ((share > -1e-5) & (share < 1 + 1e-5)).all()
    assert np.ptp(share) > 0.1  # drawn for each example
    np.testing.assert_allclose(
        targets[:, 0], share * (own % 2) + (1 - share) * (other % 2), atol=1e-5
    )
    np.testing.assert_allclose(inputs["metadata"][:, 0], level, atol=1e-4)
    np.testing.assert_array_equal(inputs["row"], own)
    np.testing.assert_array_equal(mask, 1)


def test_cutmix_takes_one_window_whole():
    inputs, _, _ = mixed([CutMix(probability=1.0)], [0, 1] * 10, size_px=16)
    windows = 0
    for place, image in enumerate(inputs["image"][..., 0] * 20):
        is_own = np.isclose(image, place)
        assert (is_own | np.isclose(image, (place + 1) % 20)).all()
        rows, columns = np.flatnonzero((~is_own).any(1)), np.flatnonzero((~is_own).any(0))
        if len(rows):
            assert not is_own[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any()
            windows += 1
    assert windows >= 10


def test_mixup_averages_every_pixel_alike():
    inputs, _, _ = mixed([MixUp(alpha=1.0)], [0, 1] * 4)
    assert np.ptp(inputs["image"], axis=(1, 2, 3)).max() < 1e-6


def test_class_indices_become_shares_of_classes():
    _, targets, _ = mixed([MixUp(alpha=1.0)], [0, 1, 2, 2], label=MULTICLASS)
    assert (targets.dtype, targets.shape) == (np.float32, (4, 3))
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(targets[0] > 0, [True, True, False])
    np.testing.assert_allclose(targets[2], [0, 0, 1], atol=1e-6)


def test_an_unknown_target_stays_unknown_and_is_mixed_into_no_known_one():
    inputs, targets, mask = mixed([MixUp(alpha=1.0)], [0, -1, 1, 0, 1], label=MULTICLASS)
    np.testing.assert_array_equal(targets[1], -1)
    np.testing.assert_array_equal(targets[0], [1, 0, 0])
    np.testing.assert_allclose(inputs["image"][:2, 0, 0, 0], [0, 0.2])
    np.testing.assert_array_equal(mask, 1)
    assert 0 < targets[2, 1] < 1


def test_an_unknown_output_stays_unknown_where_both_lack_it():
    labels = [[1, -1], [0, -1], [0, 1], [1, 1]]
    _, targets, _ = mixed([MixUp(alpha=1.0)], labels, label=MULTILABEL)
    np.testing.assert_array_equal(targets[:2, 1], -1)
    assert 0 < targets[0, 0] < 1
    np.testing.assert_array_equal(targets[1], [0, -1])  # its partner knows more: not mixed
    assert (targets[2:] >= 0).all()


def test_what_is_masked_out_is_mixed_with_nothing_and_weights_are_mixed():
    _, targets, mask = mixed([MixUp(alpha=1.0)], [0, 1, 1, 0], mask=[1, 0, 3, 1])
    np.testing.assert_array_equal(targets[:2, 0], [0, 1])
    np.testing.assert_array_equal(mask[:2], [1, 0])
    # 3 for a positive and 1 for a negative, mixed in one proportion.
    assert mask[2] == pytest.approx(1 + 2 * targets[2, 0], rel=1e-5)


def test_an_op_happens_with_its_probability():
    _, targets, _ = mixed([MixUp(alpha=1.0, probability=0.25)], [0, 1] * 200)
    is_mixed = (targets != 0) & (targets != 1)
    assert 70 <= is_mixed.sum() <= 130  # 100 on average, sd 8.7
    _, targets, _ = mixed([MixUp(probability=0.0), CutMix(probability=0.0)], [0, 1] * 20)
    np.testing.assert_array_equal(targets[:, 0], [0, 1] * 20)


def test_the_same_seed_mixes_the_same_with_and_without_xla():
    plain, compiled = (mixed(OPS, [0, 1] * 8, label=MULTICLASS, jit=jit) for jit in (False, True))
    for one, other in zip(tf.nest.flatten(plain), tf.nest.flatten(compiled), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    another = mixed(OPS, [0, 1] * 8, label=MULTICLASS, seed=(1, 3))
    assert np.abs(plain[1] - another[1]).max() > 0.1


def test_a_recipe_without_mixing_has_none():
    assert build_mix([Rotation()], BINARY) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixUp(alpha=0.0), r"mixup: alpha must be in \[0.01, 100\], got 0.0"),
        (lambda: CutMix(alpha=-1.0), r"cutmix: alpha must be in \[0.01, 100\], got -1.0"),
        (lambda: CutMix(probability=1.1), r"cutmix: probability must be in \[0, 1\], got 1.1"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
