"""The chain: order, seeds, one warp without black edges, fused colours, all in place."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.colour import Brightness, Contrast, Hue, Saturation
from pipeline.stream.augment.crops import RandomResizedCrop
from pipeline.stream.augment.geometry import (
    FlipLeftRight,
    FlipUpDown,
    Rotation,
    Shear,
    Shift,
    Transpose,
    Zoom,
)
from pipeline.stream.augment.mix import CutMix
from pipeline.stream.augment.pixel import Gamma
from pipeline.stream.augment.recipe import OPS

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
FLIPS = {
    "flip_left_right": (FlipLeftRight, lambda image: image[:, ::-1]),
    "flip_up_down": (FlipUpDown, lambda image: image[::-1]),
    "transpose": (Transpose, lambda image: image.swapaxes(0, 1)),
}
GEOMETRY = (
    RandomResizedCrop(area=(0.2, 1.0)), Rotation(), Shear(max_angle_deg=30.0),
    Zoom(max_fraction=1.0, per_axis=True), Shift(max_px=40.0), FlipUpDown(),
)  # fmt: skip


def run(ops, places=(0,), *, image=IMAGE, op_seed=11, border="reflect", size_px=None):
    """The image augmented at each of some places of an epoch: uint8 [N, S, S, 3]."""
    size_px = size_px or min(image.shape[:2])
    out = np.empty((len(places), size_px, size_px, 3), np.uint8)
    chain = Chain(ops, size_px=size_px, border=border)
    seeds = [op_seed + i for i in range(len(ops))]
    chain.apply([image] * len(places), seeds, np.asarray(places, np.int64), out)
    return out


def gray(level, size_px=4):
    return np.full((size_px, size_px, 3), level, np.uint8)


@pytest.mark.parametrize("chain", list(itertools.permutations(FLIPS)))
def test_geometry_is_applied_in_the_order_of_the_list(chain):
    (out,) = run([FLIPS[name][0](probability=1.0) for name in chain])
    wanted = IMAGE
    for name in chain:
        wanted = FLIPS[name][1](wanted)
    np.testing.assert_array_equal(out, wanted)


def test_a_chain_of_geometry_is_one_op_after_the_other():
    y, x = np.mgrid[:48, :48]
    smooth = np.stack([3 * x, 3 * y, 100 + x - y], axis=2).astype(np.uint8)
    ops = [Rotation(max_angle_deg=15.0), Shift(max_px=4.0), Zoom(max_fraction=0.2)]
    (at_once,) = run(ops, image=smooth)
    stepwise = smooth
    for number, op in enumerate(ops):
        (stepwise,) = run([op], image=stepwise, op_seed=11 + number)
    inside = np.s_[14:34, 14:34]  # what was reflected on the way may differ
    np.testing.assert_allclose(at_once[inside].astype(int), stepwise[inside], atol=3)


def test_flips_and_transpose_give_the_eight_symmetries_about_equally_often():
    out = run([FlipLeftRight(), FlipUpDown(), Transpose()], range(400))
    kinds, counts = np.unique(out.reshape(400, -1), axis=0, return_counts=True)
    assert len(kinds) == 8
    assert 25 <= counts.min() <= counts.max() <= 80, counts  # 50 each on average, sd 6.6


@settings(max_examples=50)
@given(
    st.permutations(GEOMETRY[1:]), st.booleans(), st.integers(0, 2**40), st.integers(20, 60),
    st.integers(20, 60), st.sampled_from(["reflect", "crop"]),
)  # fmt: skip
def test_geometry_leaves_no_black_edges(ops, is_cropped, place, height, width, border):
    ops = [*GEOMETRY[:1], *ops] if is_cropped else ops
    white = np.full((height, width, 3), 255, np.uint8)
    out = run(ops, [place], image=white, border=border, size_px=20)
    assert out.min() == 255


@settings(max_examples=50)
@given(st.permutations(GEOMETRY[1:]), st.integers(0, 2**40))
def test_a_border_that_is_cropped_shows_no_reflection(ops, place):
    # A mirror would turn the slope round.
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 60, 3))
    (out,) = run(ops, [place], image=np.ascontiguousarray(ramp), border="crop", size_px=60)
    for axis in (0, 1):
        steps = np.diff(out[..., 0].astype(int), axis=axis)
        assert steps.min() >= -1 or steps.max() <= 1


@pytest.mark.parametrize("name", FLIPS)
def test_an_op_happens_with_its_probability(name):
    op = FLIPS[name][0]
    changed = (run([op(probability=0.25)], range(400)) != IMAGE).any(axis=(1, 2, 3))
    assert 70 <= changed.sum() <= 130  # 100 on average, sd 8.7
    assert not (run([op(probability=0.0)], range(20)) != IMAGE).any()


def test_whether_an_op_happens_says_nothing_of_how_much():
    out = run([Brightness(max_delta=0.2, probability=0.5)], range(200), image=gray(128))
    shifts = out[:, 0, 0, 0].astype(int) - 128
    happened = shifts[shifts != 0]
    assert 65 <= len(happened) <= 130
    assert abs(np.mean(happened > 0) - 0.5) < 0.2  # one draw for both would give all or nothing


@pytest.mark.parametrize("name", OPS)
def test_an_op_draws_the_same_alone_in_a_batch_and_before_others(name):
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    strongest = OPS[name].op(**OPS[name].strengths[-1])
    whole = run([strongest], range(30), image=image, size_px=12)
    np.testing.assert_array_equal(whole[7:8], run([strongest], [7], image=image, size_px=12))
    nothing = Brightness(max_delta=0.0)
    np.testing.assert_array_equal(
        whole, run([strongest, nothing], range(30), image=image, size_px=12)
    )


@pytest.mark.parametrize("name", OPS)
def test_an_op_takes_an_image_of_one_pixel(name):
    op = OPS[name].op(**OPS[name].strengths[-1], probability=1.0)
    assert run([op], range(20), image=IMAGE[:1, :1]).shape == (20, 1, 1, 3)


def test_another_seed_draws_otherwise():
    assert (run([Rotation()], range(3)) != run([Rotation()], range(3), op_seed=12)).any()


def test_no_ops_leave_the_image():
    np.testing.assert_array_equal(run([])[0], IMAGE)


def test_mixing_is_left_to_the_training_step():
    chain = Chain([CutMix(probability=1.0)], size_px=6)
    assert chain.is_empty
    np.testing.assert_array_equal(run([CutMix(probability=1.0)])[0], IMAGE)


def test_colours_that_stand_together_are_one_after_the_other_to_rounding():
    image = np.random.default_rng(2).integers(90, 160, (16, 16, 3), np.uint8)
    ops = [
        Contrast(factor=(0.8, 1.2)), Saturation(factor=(0.7, 1.3)), Hue(max_angle_deg=10.0),
        Brightness(max_delta=0.1), Contrast(factor=(0.8, 1.2)),
    ]  # fmt: skip
    for place in range(20):
        (at_once,) = run(ops, [place], image=image)
        stepwise = image
        for number, op in enumerate(ops):
            (stepwise,) = run([op], [place], image=stepwise, op_seed=11 + number)
        np.testing.assert_allclose(at_once.astype(int), stepwise, atol=3)


def test_colours_are_clipped_once_at_the_end_of_a_run():
    brighter, darker = Brightness(max_delta=0.9), Brightness(max_delta=0.9)
    out = run([brighter, darker], range(50), image=gray(128))
    alone = run([brighter], range(50), image=gray(128))
    is_white = (alone == 255).all(axis=(1, 2, 3))
    assert is_white.any()
    assert len(np.unique(out[is_white, 0, 0, 0])) > 5  # what was beyond white came back


def test_pixels_between_colours_see_what_was_before_them():
    gamma = Gamma(gamma=(2.0, 2.0))
    halve = Contrast(factor=(0.0, 0.0))
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 200
    (first,) = run([halve, gamma], image=image)
    (last,) = run([gamma, halve], image=image)
    assert first.flat[0] == round(255 * (100 / 255) ** 2)
    assert last.flat[0] == round(round(255 * (200 / 255) ** 2) / 2)


def test_a_linear_map_in_place_is_the_same_as_beside():
    image = np.random.default_rng(3).integers(0, 256, (33, 17, 3), np.uint8)
    matrix = np.random.default_rng(4).normal(0.3, 0.3, (3, 4))
    matrix[:, 3] *= 255
    wanted = np.clip(np.rint(image @ matrix[:, :3].T + matrix[:, 3]), 0, 255)
    batch = np.stack([image, image])
    cv2.transform(batch[1], matrix, dst=batch[1])
    np.testing.assert_allclose(batch[1], wanted, atol=1)
    np.testing.assert_array_equal(batch[0], image)
