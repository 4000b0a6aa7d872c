"""Tones and sharpness: each op against an independent formula, and in place."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.stream.augment.pixel import Blur, Gamma, Noise, Sharpen

OPS = [
    Gamma(gamma=(2.0, 2.0)), Blur(sigma_px=(1.0, 1.0)), Noise(sigma=(0.1, 0.1)),
    Sharpen(amount=(1.0, 1.0)),
]  # fmt: skip


def changed(op, image, seed=0):
    out = image.copy()
    assert op.change(out, np.random.default_rng(seed)) is None
    return out


def noise(size_px=32):
    return np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_an_image_of_a_batch_is_changed_and_its_neighbours_are_not(op):
    batch = np.stack([noise(), noise(), noise()])
    op.change(batch[1], np.random.default_rng(3))
    assert (batch[1] != noise()).any()
    np.testing.assert_array_equal(batch[[0, 2]], [noise(), noise()])
    np.testing.assert_array_equal(batch[1], changed(op, noise(), seed=3))


def test_gamma_is_a_power_of_the_share_of_full_scale():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)
    out = changed(Gamma(gamma=(2.0, 2.0)), levels)
    np.testing.assert_allclose(out / 255, (levels / 255) ** 2, atol=0.5 / 255)


def test_gamma_is_as_often_below_1_as_above():
    middle = np.full((1, 1, 3), 128, np.uint8)
    op = Gamma(gamma=(0.5, 2.0))
    out = np.array([changed(op, middle, seed)[0, 0, 0] for seed in range(400)])
    assert 160 <= (out > 128).sum() <= 240  # 200 on average, sd 10
    assert 64 <= out.min() < 68
    assert 176 < out.max() <= 181


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 2.5])
def test_a_blur_is_gaussian_and_mirrored_at_the_edge(sigma_px):
    out = changed(Blur(sigma_px=(sigma_px, sigma_px)), noise())
    sigmas = (sigma_px, sigma_px, 0)
    wanted = ndimage.gaussian_filter(noise().astype(float), sigmas, mode="reflect", truncate=6)
    # OpenCV cuts the weights off at 3 sigma.
    assert np.abs(out - wanted).max() <= 3
    assert np.abs(out - wanted).mean() < 0.7


def test_noise_has_the_asked_spread_and_no_pattern():
    gray = np.full((128, 128, 3), 128, np.uint8)
    added = changed(Noise(sigma=(0.05, 0.05)), gray).astype(float) - 128
    assert abs(added.mean()) < 0.2
    assert added.std() == pytest.approx(0.05 * 255, rel=0.02)
    channels = np.corrcoef(added.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(added[:, 1:].ravel(), added[:, :-1].ravel())[0, 1]) < 0.03
    # As normal as 256 values can be: shares within one and two sigmas.
    for sigmas, share in ((1, 0.683), (2, 0.954)):
        assert np.mean(np.abs(added) < sigmas * 12.75) == pytest.approx(share, abs=0.02)


def test_noise_is_clipped_at_black_and_white():
    both = np.stack([np.zeros((32, 3)), np.full((32, 3), 255)], axis=1).astype(np.uint8)
    out = changed(Noise(sigma=(0.3, 0.3)), both)
    assert 0 < np.median(out[out[:, 0].any(axis=1), 0]) < 255
    assert (out[:, 0] < 230).all()  # nothing wrapped around
    assert (out[:, 1] > 25).all()


def test_sharpening_adds_what_a_blur_takes_away():
    smooth = ndimage.gaussian_filter(noise().astype(float), (2, 2, 0)).astype(np.uint8)
    blurred = ndimage.gaussian_filter(smooth.astype(float), (1.5, 1.5, 0), mode="reflect")
    wanted = smooth + 2 * (smooth - blurred)
    out = changed(Sharpen(amount=(2.0, 2.0), sigma_px=1.5), smooth)
    assert np.abs(out - wanted).max() <= 3
    flat = np.full((8, 8, 3), 77, np.uint8)
    np.testing.assert_array_equal(changed(Sharpen(amount=(2.0, 2.0)), flat), flat)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma(gamma=(0.0, 1.0)), r"gamma: gamma must be two numbers from 0.1 to 10"),
        (lambda: Blur(sigma_px=(0.0, 1.0)), r"blur: sigma_px must be .* got \[0.0, 1.0\]"),
        (lambda: Noise(sigma=(0.1, 0.6)), r"noise: sigma must be two numbers from 0 to 0.5"),
        (lambda: Sharpen(amount=(-1.0, 1.0)), r"sharpen: amount must be two numbers from 0"),
        (lambda: Sharpen(amount=(0.0, 1.0), sigma_px=0.0), r"sharpen: sigma_px .* got 0.0"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
