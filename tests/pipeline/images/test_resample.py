import numpy as np
import pytest

from pipeline.images.resample import resample


def ramp(width, height):
    """uint8 [height, width, 3] whose value is the x or y of the pixel's centre, rounded."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y, x], axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [
        ((0, 0, 240, 200), 60, 50),
        ((10, 20, 110, 120), 50, 50),
        ((10.25, 20.5, 190.75, 180.5), 64, 64),
        ((3.5, 0, 203.5, 200), 90, 90),
        ((3.5, 0, 203.5, 200), 13, 13),
        ((0, 0, 240, 200), 37, 91),
        ((7, 9, 41, 33), 100, 100),
        ((7.5, 9.5, 41.5, 33.5), 100, 100),
        ((1, 1, 239, 200), 300, 20),
    ],
)
def test_every_pixel_is_sampled_at_its_place(box, width, height):
    out = resample(ramp(240, 200), box, width, height)
    assert out.shape == (height, width, 3)
    x0, y0, x1, y1 = box
    x = x0 + (np.arange(width) + 0.5) * (x1 - x0) / width
    y = y0 + (np.arange(height) + 0.5) * (y1 - y0) / height
    inside = (slice(2, -2), slice(2, -2))  # a border has nothing beyond it to interpolate with
    np.testing.assert_allclose(
        out[inside][..., 0], np.broadcast_to(x, (height, width))[inside], atol=1.1
    )
    np.testing.assert_allclose(
        out[inside][..., 1], np.broadcast_to(y[:, None], (height, width))[inside], atol=1.1
    )


def test_a_box_of_the_wanted_size_on_whole_pixels_is_cut_out_untouched():
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(resample(noise, (5, 7, 35, 27), 30, 20), noise[7:27, 5:35])


@pytest.mark.parametrize("size", [32, 64, 128], ids=["8 to 1", "4 to 1", "2 to 1"])
def test_a_checkerboard_shrinks_to_its_mean(size):
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 200).astype(np.uint8)
    np.testing.assert_array_equal(resample(board, (0, 0, 256, 256), size, size), 100)


@pytest.mark.parametrize("box", [(0, 0, 61, 61), (0.5, 0.5, 60.5, 60.5)], ids=["whole", "half"])
@pytest.mark.parametrize("size", [7, 30, 61, 200])
def test_a_flat_image_stays_flat(box, size):
    flat = np.full((61, 61), 77, np.uint8)
    np.testing.assert_array_equal(resample(flat, box, size, size), 77)
