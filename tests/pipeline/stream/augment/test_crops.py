"""Windows of the stored image: inside it, of the asked area and shape, and at its own detail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.crops import RandomResizedCrop, SameSizeCrop
from pipeline.stream.augment.ops import Frame

SEEDS = st.integers(0, 2**32)


def stored_frame(width, height, size_px):
    scale = np.full(1, min(width, height) / size_px)
    return Frame(size_px=size_px, width=width / scale, height=height / scale, stored_per_px=scale)


def window(op, u, frame):
    """Left, top, right, bottom of the window that the output shows, as shares of the image."""
    (matrix,) = op.matrices(u, frame)
    corners = (matrix @ [[0, frame.size_px], [0, frame.size_px], [1, 1]])[:2].T
    extent = np.array([frame.width[0], frame.height[0]])
    return ((corners - frame.size_px / 2) / extent + 0.5).ravel()


@given(SEEDS, st.integers(32, 200), st.integers(32, 200))
def test_a_random_resized_crop_has_the_asked_area_and_shape_within_the_image(seed, width, height):
    op = RandomResizedCrop(area=(0.2, 0.6), aspect=(0.75, 1.4))
    u = np.random.default_rng(seed).random((1, op.draws))
    left, top, right, bottom = window(op, u, stored_frame(width, height, 32))
    assert -1e-9 <= left < right <= 1 + 1e-9
    assert -1e-9 <= top < bottom <= 1 + 1e-9
    area, aspect = (right - left) * (bottom - top), (right - left) / (bottom - top) * width / height
    if right - left < 1 - 1e-9 and bottom - top < 1 - 1e-9:  # else none fitted, and it was cut
        assert 0.2 - 1e-9 <= area <= 0.6 + 1e-9
        assert 0.75 - 1e-9 <= aspect <= 1.4 + 1e-9


def test_a_crop_of_all_the_area_shows_the_whole_image():
    op = RandomResizedCrop(area=(1.0, 1.0), aspect=(1.5, 1.5))
    u = np.random.default_rng(0).random((1, op.draws))
    np.testing.assert_allclose(window(op, u, stored_frame(96, 64, 32)), [0, 0, 1, 1], atol=1e-9)


def test_a_window_that_never_fits_is_cut_to_the_image():
    op = RandomResizedCrop(area=(1.0, 1.0), aspect=(1.0, 1.0))
    u = np.random.default_rng(0).random((1, op.draws))
    left, top, right, bottom = window(op, u, stored_frame(400, 100, 32))
    np.testing.assert_allclose([top, bottom], [0, 1], atol=1e-9)
    assert right - left == pytest.approx(0.5)  # as wide as the area asks: sqrt(400 * 100) of 400


def test_a_small_crop_shows_stored_pixels_that_the_whole_image_at_that_size_has_lost():
    stored = np.full((128, 128, 3), 100, np.uint8)
    stored[:, ::4] = stored[:, 1::4] = 180  # stripes of 4 px average away at a quarter of the size
    out = np.empty((1, 32, 32, 3), np.uint8)
    crop = RandomResizedCrop(area=(1 / 16, 1 / 16), aspect=(1.0, 1.0))
    Chain([crop], size_px=32).apply([stored], [1], np.arange(1), out)
    assert np.ptp(out) > 30
    Chain([], size_px=32).apply([stored], [], np.arange(1), out)
    assert np.ptp(out) <= 1


def test_a_same_size_crop_is_any_window_of_stored_pixels_unchanged():
    stored = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    out = np.empty((400, 4, 4, 3), np.uint8)
    Chain([SameSizeCrop()], size_px=4).apply([stored] * 400, [5], np.arange(400), out)
    windows = {stored[y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(5)}
    assert {image.tobytes() for image in out} == windows


def test_a_same_size_crop_of_an_image_of_that_size_is_the_image():
    stored = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    out = np.empty((1, 9, 9, 3), np.uint8)
    Chain([SameSizeCrop()], size_px=9).apply([stored], [5], np.arange(1), out)
    np.testing.assert_array_equal(out[0], stored)


@pytest.mark.parametrize("op", [RandomResizedCrop(), SameSizeCrop()])
def test_a_crop_asks_for_the_stored_image(op):
    assert Chain([op], size_px=8).needs_stored


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"area": (0.5, 0.2)}, r"random_resized_crop: area must be .* in order, got \[0.5, 0.2\]"),
        ({"area": (0.0, 1.0)}, r"area must be two numbers from 0.001 to 1, .*, got \[0.0, 1.0\]"),
        ({"aspect": (0.0, 1.0)}, "aspect must be two numbers from 0.1 to 10"),
        ({"probability": 2.0}, r"random_resized_crop: probability must be in \[0, 1\], got 2"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomResizedCrop(**settings)
