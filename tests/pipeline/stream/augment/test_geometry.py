"""Ops that move pixels: their matrices against independent formulas, their bounds, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.augment.geometry import (
    FlipLeftRight,
    FlipUpDown,
    Rotation,
    Shear,
    Shift,
    Transpose,
    Zoom,
)
from pipeline.stream.augment.ops import Frame

UNIT = st.floats(0, 1, exclude_max=True)
PLACE = st.floats(-300, 300)


def square(size_px):
    one = np.ones(1)
    return Frame(size_px=size_px, width=size_px * one, height=size_px * one, stored_per_px=one)


def before(op, u, x, y, size_px=64):
    """Where the place (x, y) of the output was before the op."""
    (matrix,) = op.matrices(np.array([u], np.float64), square(size_px))
    np.testing.assert_array_equal(matrix[2], [0, 0, 1])
    return (matrix @ [x, y, 1])[:2]


@given(UNIT, PLACE, PLACE, st.integers(1, 512))
def test_a_rotation_turns_places_about_the_centre(u, x, y, size_px):
    centre = (1 + 1j) * size_px / 2
    angle = np.deg2rad((2 * u - 1) * 70)
    wanted = centre + (x + y * 1j - centre) * np.exp(-1j * angle)
    found = before(Rotation(max_angle_deg=70.0), [u], x, y, size_px)
    np.testing.assert_allclose(found, [wanted.real, wanted.imag], atol=1e-9)


def test_a_positive_angle_is_clockwise():
    right = before(Rotation(max_angle_deg=90.0), [1.0], 64, 32)
    np.testing.assert_allclose(right, [32, 0], atol=1e-9)  # the top is now on the right


@given(UNIT, PLACE, PLACE)
def test_a_shear_slides_columns_and_keeps_the_centre(u, x, y):
    angle = np.deg2rad((2 * u - 1) * 20)
    found_x, found_y = before(Shear(max_angle_deg=20.0), [u], 32 + x, 32 + y)
    assert found_x == pytest.approx(32 + x * np.cos(angle))
    assert found_y == pytest.approx(32 + y + x * np.sin(angle))


@given(UNIT)
def test_a_zoom_enlarges_and_shrinks_by_as_much(u):
    op = Zoom(max_fraction=0.25)
    enlarged = 32 / (before(op, [u, 0], 64, 64) - 32)
    shrunk = 32 / (before(op, [1 - u, 0], 64, 64) - 32)
    assert enlarged[0] == enlarged[1]
    assert 0.8 <= enlarged[0] <= 1.25
    np.testing.assert_allclose(enlarged * shrunk, 1)
    assert before(op, [1.0, 0], 64, 64)[0] == pytest.approx(32 + 32 / 1.25)


def test_a_zoom_per_axis_has_two_factors():
    x, y = before(Zoom(max_fraction=1.0, per_axis=True), [1.0, 0.5], 64, 64)
    assert (x, y) == (48, 64)


def test_a_shift_moves_what_is_seen_by_pixels_of_the_output():
    # The largest draw moves the image right and down, so a place shows what was left and above.
    np.testing.assert_allclose(before(Shift(max_px=8.0), [1.0, 0.75], 20, 20), [12, 16])


@pytest.mark.parametrize(
    ("op", "wanted"),
    [(FlipLeftRight(), (61, 5)), (FlipUpDown(), (3, 59)), (Transpose(), (5, 3))],
)
def test_flips_mirror_places(op, wanted):
    assert tuple(before(op, [], 3, 5)) == wanted


@pytest.mark.parametrize(
    "op", [Rotation(max_angle_deg=0.0), Shear(max_angle_deg=0.0), Zoom(max_fraction=0.0)]
)
def test_an_op_without_strength_leaves_every_place(op):
    np.testing.assert_allclose(before(op, [0.9] * op.draws, 7, 60), [7, 60], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rotation(max_angle_deg=181.0), r"max_angle_deg must be in \[0, 180\], got 181"),
        (lambda: Rotation(probability=1.5), r"rotation: probability must be in \[0, 1\], got 1.5"),
        (lambda: Shear(max_angle_deg=-1.0), r"shear: max_angle_deg must be in \[0, 60\], got -1"),
        (lambda: Zoom(max_fraction=-0.1), r"zoom: max_fraction must be in \[0, 4\], got -0.1"),
        (lambda: Shift(max_px=-8.0), "shift: max_px must be 0 or more and finite, got -8"),
        (lambda: Shift(max_px=float("inf")), "shift: max_px must be .*, got inf"),
        (lambda: FlipLeftRight(probability=-1.0), "flip_left_right: probability must be in"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
