import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.fit import FITS, SQUARE_FITS, fit_box, is_fitted, map_boxes

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


@pytest.mark.parametrize(("fit", "target"), [("short", (0, 0, 100, 50)), ("long", (0, 0, 50, 25))])
def test_short_and_long_keep_the_aspect_and_add_nothing(fit, target):
    fitted = fit_box(400, 200, 50, fit)
    assert (fitted.crop, fitted.target) == ((0, 0, 400, 200), target)
    assert (fitted.width_px, fitted.height_px) == target[2:]
    assert fit_box(200, 400, 50, fit).target == (0, 0, target[3], target[2])


def test_long_leaves_a_pixel_of_the_thinnest_image():
    assert fit_box(5000, 1, 100, "long").target == (0, 0, 100, 1)


@pytest.mark.parametrize("fit", FITS)
def test_a_part_is_fitted_as_the_whole_of_it_would_be(fit):
    whole, part = fit_box(300, 200, 64, fit), fit_box(900, 900, 64, fit, (70, 30, 370, 230))
    assert part.target == whole.target
    np.testing.assert_allclose(np.subtract(part.crop, whole.crop), [70, 30, 70, 30])


@pytest.mark.parametrize(
    ("fit", "fitting", "not_fitting"),
    [
        *((fit, [(64, 64)], [(64, 65), (63, 63)]) for fit in SQUARE_FITS),
        ("short", [(64, 64), (64, 99), (99, 64)], [(63, 64), (65, 99)]),
        ("long", [(64, 64), (64, 9), (1, 64)], [(64, 65), (63, 9)]),
    ],
)
def test_the_sides_of_an_output_tell_whether_they_can_come_of_a_fit(fit, fitting, not_fitting):
    assert all(is_fitted(*sides, 64, fit) for sides in fitting)
    assert not any(is_fitted(*sides, 64, fit) for sides in not_fitting)


@pytest.mark.parametrize(
    ("fit", "enlarging", "not_enlarging"),
    [
        ("crop", (99, 500), (100, 500)),
        ("pad", (99, 50), (100, 50)),
        ("stretch", (99, 500), (100, 100)),
        ("short", (99, 500), (100, 500)),
        ("long", (99, 50), (100, 50)),
    ],
)
def test_an_image_is_enlarged_from_one_pixel_too_few(fit, enlarging, not_enlarging):
    assert fit_box(*enlarging, 100, fit).enlarges
    assert not fit_box(*not_enlarging, 100, fit).enlarges


@given(SIDES, SIDES, st.sampled_from(FITS))
def test_fitting_to_its_own_size_enlarges_nothing(width, height, fit):
    size = max(width, height) if fit in ("pad", "long") else min(width, height)
    assert not fit_box(width, height, size, fit).enlarges


def test_an_unknown_fit_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of crop, pad, stretch, short, long, got 'squash'"):
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
    assert 0 <= left < right <= fitted.width_px
    assert 0 <= top < bottom <= fitted.height_px
    assert is_fitted(fitted.width_px, fitted.height_px, size, fit)


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
