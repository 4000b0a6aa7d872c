"""One warp: against an independent bilinear sampling, without a half-pixel shift, alias or edge."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stream.augment.ops import Frame
from pipeline.stream.augment.warp import cover, find_windows, move, to_stored, warp


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def turned_by(angle_deg, size_px, factor=1.0):
    """float64 [2, 3]: about the centre of a square."""
    cos, sin = factor * np.cos(np.deg2rad(angle_deg)), factor * np.sin(np.deg2rad(angle_deg))
    linear = np.array([[cos, sin], [-sin, cos]])
    centre = np.full(2, size_px / 2)
    return np.column_stack([linear, centre - linear @ centre])


def sampled(image, matrix, size_px):
    """Bilinear, the image mirrored at its edges: in float64, by definition and not by speed."""
    y, x = np.mgrid[:size_px, :size_px] + 0.5
    places = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]) - 0.5
    lower = np.floor(places).astype(int)
    share = places - lower
    total = np.zeros((x.size, 3))
    for step_x, step_y in itertools.product((0, 1), repeat=2):
        weight = (share[0] if step_x else 1 - share[0]) * (share[1] if step_y else 1 - share[1])
        column, row = (
            mirrored(lower[0] + step_x, image.shape[1]),
            mirrored(lower[1] + step_y, image.shape[0]),
        )
        total += weight[:, None] * image[row, column]
    return total.reshape(size_px, size_px, 3)


def mirrored(index, length):
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


@settings(max_examples=60)
@given(
    st.floats(-180, 180), st.floats(0.3, 1.2), st.floats(-40, 40), st.floats(-40, 40),
    st.integers(8, 40), st.integers(8, 40),
)  # fmt: skip
def test_a_warp_is_bilinear_and_mirrored_at_the_edge(angle, step, shift_x, shift_y, height, width):
    y, x = np.mgrid[:height, :width]
    # Slopes of 4 a pixel: OpenCV's places are 1/32 px, which then changes a colour by 0.1.
    image = np.stack([4 * x, 4 * y, 128 + 2 * x - 2 * y], axis=2).astype(np.uint8)
    matrix = turned_by(angle, 24, step)
    matrix[:, 2] += [shift_x, shift_y]
    out = np.empty((24, 24, 3), np.uint8)
    warp(image, matrix, out)
    difference = np.abs(out - sampled(image, matrix, 24)).max()
    assert difference <= 1, difference


def test_four_quarter_turns_give_the_image_back():
    image = noise(32, 32)
    out = np.empty_like(image)
    for _ in range(4):
        warp(image, turned_by(90, 32), out)
        image, out = out, image
    np.testing.assert_allclose(image.astype(int), noise(32, 32), atol=1)


def test_many_turns_leave_a_spot_where_it_was():
    y, x = np.mgrid[:64, :64] + 0.5
    spot = 200 * np.exp(-((x - 40) ** 2 + (y - 28) ** 2) / (2 * 4**2))
    image = np.repeat(np.rint(spot)[:, :, None], 3, axis=2).astype(np.uint8)
    out = np.empty_like(image)
    for _ in range(36):
        warp(image, turned_by(10, 64), out)
        image, out = out.copy(), image
    weights = image[..., 0] / image[..., 0].sum()
    np.testing.assert_allclose([(weights * x).sum(), (weights * y).sum()], [40, 28], atol=0.1)


def checkerboard(size_px):
    y, x = np.mgrid[:size_px, :size_px]
    return np.repeat((255 * ((x + y) % 2))[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("step", [1.5, 2.02, 3.03])
@pytest.mark.parametrize("angle_deg", [0, 1, 45])
def test_a_checkerboard_that_shrinks_turns_gray(step, angle_deg):
    board, out = checkerboard(256), np.empty((64, 64, 3), np.uint8)
    matrix = turned_by(angle_deg, 64, step)
    warp(board, matrix, out)
    assert np.abs(out.astype(int) - 127).max() <= 20
    assert np.abs(sampled(board, matrix, 64) - 127).max() > 60  # bilinear alone shows a pattern


@pytest.mark.parametrize("axis", [0, 1])
def test_stripes_that_shrink_along_one_axis_alone_turn_gray(axis):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes.swapaxes(0, axis)[::2] = 255
    matrix = np.eye(3)[:2]
    matrix[1 - axis] *= 2.0
    matrix[axis] *= 0.5
    out = np.empty((32, 32, 3), np.uint8)
    warp(stripes, matrix, out)
    assert np.abs(out.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("mirrored_x", [0, 1])
@pytest.mark.parametrize("mirrored_y", [0, 1])
def test_a_symmetry_is_found_and_done_without_interpolation(transposed, mirrored_x, mirrored_y):
    image = noise(7, 7)
    wanted = image.swapaxes(0, 1) if transposed else image
    wanted = wanted[:, ::-1] if mirrored_x else wanted
    wanted = wanted[::-1] if mirrored_y else wanted
    flip_x = np.array([[-1, 0, 7], [0, 1, 0], [0, 0, 1]])
    flip_y = np.array([[1, 0, 0], [0, -1, 7], [0, 0, 1]])
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    matrix = np.eye(3)
    for is_done, step in ((transposed, swap), (mirrored_x, flip_x), (mirrored_y, flip_y)):
        matrix = matrix @ step if is_done else matrix
    (turned,), _ = find_windows(matrix[None, :2], 7)
    assert turned == transposed + 2 * mirrored_x + 4 * mirrored_y
    out = np.empty_like(image)
    move([image], matrix[None, :2], out[None])
    np.testing.assert_array_equal(out, wanted)


@given(st.integers(0, 7), st.integers(0, 5), st.integers(0, 3))
def test_a_window_of_whole_pixels_is_cut_out_and_turned_without_interpolation(turns, x, y):
    image = noise(11, 13)
    wanted = image[y : y + 8, x : x + 8]
    matrix = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
    for bit, step, turn in (
        (1, [[0, 1, 0], [1, 0, 0], [0, 0, 1]], lambda window: window.swapaxes(0, 1)),
        (2, [[-1, 0, 8], [0, 1, 0], [0, 0, 1]], lambda window: window[:, ::-1]),
        (4, [[1, 0, 0], [0, -1, 8], [0, 0, 1]], lambda window: window[::-1]),
    ):
        if turns & bit:
            matrix, wanted = matrix @ step, turn(wanted)
    (turned,), (corner,) = find_windows(matrix[None, :2], 8)
    assert turned == turns
    assert corner.tolist() == [x, y]
    out = np.empty((1, 8, 8, 3), np.uint8)
    move([image], matrix[None, :2], out)
    np.testing.assert_array_equal(out[0], wanted)


def test_a_window_that_reaches_over_the_edge_shows_the_reflection():
    image = noise(9, 9)
    out = np.empty((1, 8, 8, 3), np.uint8)
    move([image], np.array([[[1, 0, -2], [0, 1, 1]]], np.float64), out)
    np.testing.assert_array_equal(out[0], np.concatenate([image[1:, 1::-1], image[1:, :6]], axis=1))


@pytest.mark.parametrize(
    "matrix",
    [turned_by(45, 8), turned_by(0, 8, 0.9), turned_by(0, 8) + 0.5 * np.eye(2, 3, k=2)],
    ids=["turned", "zoomed", "shifted by half a pixel"],
)
def test_what_is_resampled_is_no_window(matrix):
    (turned,), _ = find_windows(matrix[None], 8)
    assert turned == -1


@given(
    st.floats(-180, 180), st.floats(0.2, 4), st.floats(-200, 200), st.floats(-200, 200),
    st.floats(1, 3), st.booleans(),
)  # fmt: skip
def test_what_is_covered_lies_within_the_image(angle, step, shift_x, shift_y, ratio, is_tall):
    one = np.ones(1)
    width, height = (64, 64 * ratio) if is_tall else (64 * ratio, 64)
    frame = Frame(size_px=64, width=width * one, height=height * one, stored_per_px=2 * one)
    matrix = np.eye(3)
    matrix[:2] = turned_by(angle, 64, step)
    matrix[:2, 2] += [shift_x, shift_y]
    stored = to_stored(cover(matrix[None], frame), frame)[0]
    corners = stored @ [[0, 64, 0, 64], [0, 0, 64, 64], [1, 1, 1, 1]]
    assert corners.min() >= -1e-6
    assert (corners.max(axis=1) <= np.array([2 * width, 2 * height]) + 1e-6).all()


def test_what_lies_within_the_image_is_left_as_it_is_by_covering():
    one = np.ones(1)
    frame = Frame(size_px=64, width=64 * one, height=64 * one, stored_per_px=one)
    matrix = np.eye(3)
    matrix[:2] = turned_by(10, 64, 0.7)
    np.testing.assert_allclose(cover(matrix[None], frame)[0], matrix, atol=1e-9)
