import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.color_constancy import apply_table, move_counts, shades_of_gray


def histogram_of(pixels):
    """Counts of uint8 [H, W, 3], channel by channel."""
    return np.stack([np.bincount(each, minlength=256) for each in pixels.reshape(-1, 3).T])


def picture(gains=(1, 1, 1), seed=0):
    """uint8 [64, 48, 3]: gray noise under a light of these gains."""
    gray = np.random.default_rng(seed).integers(20, 160, (64, 48, 1))
    return np.rint(gray * np.array(gains)).astype(np.uint8)


def balanced(pixels):
    return apply_table(pixels, shades_of_gray(histogram_of(pixels)))


def sixth_mean(pixels):
    return np.mean(pixels.astype(float) ** 6, axis=(0, 1)) ** (1 / 6)


def test_a_cast_on_gray_is_removed():
    out = balanced(picture((1.3, 1.0, 0.7))).astype(int)
    assert np.ptp(out, axis=2).max() <= 2


def test_the_minkowski_means_become_equal_and_keep_their_length():
    pixels = np.random.default_rng(3).integers(0, 150, (50, 50, 3)) * [1, 0.8, 0.6]
    pixels = pixels.astype(np.uint8)
    before, after = sixth_mean(pixels), sixth_mean(balanced(pixels))
    np.testing.assert_allclose(after, np.linalg.norm(before) / np.sqrt(3), rtol=0.01)


def test_gray_stays_as_it_is():
    pixels = picture()
    np.testing.assert_array_equal(balanced(pixels), pixels)


def test_a_gray_image_of_one_channel_stays_as_it_is():
    gray = picture()[..., 0]
    np.testing.assert_array_equal(apply_table(gray, shades_of_gray(histogram_of(picture()))), gray)


def test_black_padding_moves_nothing():
    pixels = picture((1.2, 1.0, 0.8))
    padded = np.pad(pixels, ((30, 30), (0, 0), (0, 0)))
    np.testing.assert_array_equal(balanced(padded)[30:-30], balanced(pixels))


def test_what_would_be_brighter_than_white_is_white():
    pixels = picture((1.5, 0.5, 0.5))
    pixels[0, 0] = 200
    np.testing.assert_array_equal(balanced(pixels)[0, 0, 1:], 255)


@pytest.mark.parametrize("channel", [0, 2])
def test_a_channel_without_light_stays_black(channel):
    pixels = picture()
    pixels[..., channel] = 0
    assert not balanced(pixels)[..., channel].any()


def test_black_stays_black():
    assert not balanced(np.zeros((4, 4, 3), np.uint8)).any()


@given(st.integers(0, 100), st.tuples(*[st.floats(0.3, 1.5)] * 3))
def test_the_moved_counts_are_those_of_the_pixels(seed, gains):
    pixels = picture(gains, seed)
    histogram = histogram_of(pixels)
    table = shades_of_gray(histogram)
    counted = histogram_of(apply_table(pixels, table))
    np.testing.assert_array_equal(move_counts(histogram, table), counted)
