"""Linear colour ops: what they do to a colour, what they keep, what they refuse."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.augment.colour import Brightness, Contrast, Hue, Saturation

UNIT = st.floats(0, 1, exclude_max=True)
COLOUR = st.tuples(*[st.floats(0, 1)] * 3)


def changed(op, u, colour, mean=(0.5, 0.5, 0.5)):
    """The colour [3] after the op."""
    (matrix,) = op.colours(np.array([[u]]), np.array([mean], np.float64))
    assert matrix.shape == (3, 4)
    return matrix @ [*colour, 1]


@given(UNIT, COLOUR)
def test_brightness_adds_one_offset(u, colour):
    np.testing.assert_allclose(
        changed(Brightness(max_delta=0.2), u, colour),
        np.array(colour) + 0.4 * u - 0.2,
        atol=1e-12,
    )


@given(UNIT, COLOUR, COLOUR)
def test_contrast_stretches_about_the_mean_of_each_channel(u, colour, mean):
    op = Contrast(factor=(0.5, 1.5))
    wanted = [m + (0.5 + u) * (c - m) for c, m in zip(colour, mean, strict=True)]
    np.testing.assert_allclose(changed(op, u, colour, mean), wanted, atol=1e-12)


@given(UNIT, COLOUR)
def test_saturation_keeps_luma_and_grays(u, colour):
    op = Saturation(factor=(0.0, 2.0))
    found = changed(op, u, colour)
    luma, i, q = colorsys.rgb_to_yiq(*colour)
    found_luma, found_i, found_q = colorsys.rgb_to_yiq(*found)
    # colorsys rounds the weights of BT.601 to two places.
    assert found_luma == pytest.approx(luma, abs=0.01)
    np.testing.assert_allclose([found_i, found_q], [2 * u * i, 2 * u * q], atol=0.02)
    np.testing.assert_allclose(changed(op, u, [0.3] * 3), [0.3] * 3, atol=1e-12)


def test_saturation_of_nothing_is_gray():
    found = changed(Saturation(factor=(0.0, 0.0)), 0.5, [1, 0, 0])
    np.testing.assert_allclose(found, [0.299] * 3)


@given(UNIT, COLOUR)
def test_hue_keeps_the_sum_of_the_channels_and_the_distance_from_gray(u, colour):
    found = changed(Hue(max_angle_deg=90.0), u, colour)
    assert found.sum() == pytest.approx(sum(colour))
    assert np.linalg.norm(found - found.mean()) == pytest.approx(
        np.linalg.norm(np.array(colour) - np.mean(colour)), abs=1e-9
    )


def test_a_third_of_a_turn_of_hue_makes_red_green():
    third = (120 / 180 + 1) / 2
    np.testing.assert_allclose(
        changed(Hue(max_angle_deg=180.0), third, [0.9, 0.2, 0.1]), [0.1, 0.9, 0.2], atol=1e-12
    )


@pytest.mark.parametrize("op", [Contrast(factor=(0.5, 2.0)), Hue(max_angle_deg=40.0)])
def test_the_mean_colour_of_a_gray_image_stays(op):
    np.testing.assert_allclose(changed(op, 0.9, [0.5] * 3), [0.5] * 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Brightness(max_delta=1.0), r"brightness: max_delta must be in \[0, 1\), got 1.0"),
        (lambda: Contrast(factor=(1.2, 0.8)), r"contrast: factor .* in order, got \[1.2, 0.8\]"),
        (lambda: Saturation(factor=(-0.1, 1.0)), r"saturation: factor must be two .* from 0 to 10"),
        (lambda: Hue(max_angle_deg=200.0), r"hue: max_angle_deg must be in \[0, 180\], got 200"),
        (lambda: Hue(max_angle_deg=float("nan")), "hue: max_angle_deg must be in .*, got nan"),
        (lambda: Contrast(factor=(0.0, float("nan"))), "contrast: factor must be"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
