import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.fit import FITS, fit_box, map_boxes

SIDES = st.integers(1, 5000)


def test_crop_takes_the_centred_square():
    fitted = fit_box(1504, 1128, 256, "crop")
    assert fitted.crop == (188, 0, 188 + 1128, 1128)
    assert fitted.target == (0, 0, 256, 256)


def test_crop_is_centred_to_half_a_pixel_when_the_rest_is_odd():
    assert fit_box(100, 767, 64, "crop").crop == (0, 333.5, 100, 433.5)


def test_crop_stays_on_whole_pixels_where_nothing_is_resized():
    assert fit_box(257, 256, 256, "crop").crop == (0, 0, 256, 256)


def test_pad_keeps_the_aspect_and_centres():
    fitted = fit_box(400, 200, 100, "pad")
    assert fitted.crop == (0, 0, 400, 200)
    assert fitted.target == (0, 25, 100, 75)


def test_pad_leaves_a_pixel_of_the_thinnest_image():
    assert fit_box(5000, 1, 100, "pad").target == (0, 49, 100, 50)


def test_stretch_puts_the_whole_onto_the_whole():
    fitted = fit_box(400, 200, 100, "stretch")
    assert (fitted.crop, fitted.target) == ((0, 0, 400, 200), (0, 0, 100, 100))


def test_an_unknown_fit_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of crop, pad, stretch, got 'squash'"):
        fit_box(4, 4, 4, "squash")


def test_sides_of_no_pixels_are_refused():
    with pytest.raises(ValueError, match="at least 1 px, got 0×4"):
        fit_box(0, 4, 4, "crop")


@given(SIDES, SIDES, st.integers(1, 1024), st.sampled_from(FITS))
def test_crop_lies_in_the_source_and_target_in_the_output(width, height, size, fit):
    fitted = fit_box(width, height, size, fit)
    x0, y0, x1, y1 = fitted.crop
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    left, top, right, bottom = fitted.target
    assert 0 <= left < right <= size == fitted.width_px
    assert 0 <= top < bottom <= size == fitted.height_px


@given(SIDES, SIDES, st.integers(1, 1024), st.sampled_from(FITS))
def test_the_crop_box_itself_maps_onto_the_target(width, height, size, fit):
    fitted = fit_box(width, height, size, fit)
    np.testing.assert_allclose(map_boxes(np.float32([fitted.crop]), fitted), [fitted.target])


def test_boxes_are_scaled_moved_and_clipped():
    fitted = fit_box(400, 200, 100, "crop")  # x 100–300 stays, at half its size
    boxes = np.float32([[120, 20, 140, 60], [0, 0, 400, 200], [0, 0, 50, 50]])
    expected = np.float32([[10, 10, 20, 30], [0, 0, 100, 100], [0, 0, 0, 25]])
    mapped = map_boxes(boxes, fitted)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, expected)


def test_padding_clips_boxes_to_where_the_source_is():
    fitted = fit_box(400, 200, 100, "pad")
    np.testing.assert_allclose(
        map_boxes(np.float32([[-9, -9, 999, 999]]), fitted), [[0, 25, 100, 75]]
    )


def test_no_boxes_map_to_no_boxes():
    assert map_boxes(np.zeros((0, 4), np.float32), fit_box(9, 9, 3, "crop")).shape == (0, 4)


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"float32 \[N, 4\], got shape \(4,\)"):
        map_boxes(np.zeros(4, np.float32), fit_box(9, 9, 3, "crop"))
