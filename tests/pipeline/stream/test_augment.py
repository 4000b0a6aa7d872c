"""Each op: eager and in tf.data, seeded, bounded, at an edge, and what it refuses."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.stream.augment import (
    GEOMETRY_OPS,
    Brightness,
    FlipLeftRight,
    FlipUpDown,
    Transpose,
    augment,
    build_ops,
    check_geometry,
    turn_image,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
FLIPS = {
    "flip_left_right": (FlipLeftRight, lambda image: image[:, ::-1]),
    "flip_up_down": (FlipUpDown, lambda image: image[::-1]),
    "transpose": (Transpose, lambda image: image.swapaxes(0, 1)),
}


def unit(image):
    """uint8 → float32 in [0, 1]."""
    return np.float32(image) * np.float32(1 / 255)


def run(ops, places=(0,), *, image=IMAGE, op_seed=11, in_graph=True):
    """The image augmented at each of some places of an epoch: float32 [N, S, S, 3]."""
    seeds = [op_seed + i for i in range(len(ops))]
    places = np.asarray(places, np.int64)
    if not in_graph:
        return np.stack([augment(tf.constant(image), ops, seeds, tf.constant(p)) for p in places])
    dataset = tf.data.Dataset.from_tensor_slices(places)
    dataset = dataset.map(lambda place: augment(tf.constant(image), ops, seeds, place))
    assert dataset.element_spec.shape == image.shape
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "tf.data"])
@pytest.mark.parametrize("name", FLIPS)
def test_a_flip_moves_every_pixel_and_changes_none(name, in_graph):
    op, flipped = FLIPS[name]
    (out,) = run([op(probability=1.0)], in_graph=in_graph)
    np.testing.assert_array_equal(out, unit(flipped(IMAGE)))


@pytest.mark.parametrize("name", FLIPS)
def test_an_image_of_one_pixel_stays_as_it_is(name):
    (out,) = run([FLIPS[name][0](probability=1.0)], image=IMAGE[:1, :1])
    np.testing.assert_array_equal(out, unit(IMAGE[:1, :1]))


@pytest.mark.parametrize("chain", list(itertools.permutations(FLIPS)))
def test_a_chain_of_flips_is_applied_in_its_order(chain):
    (out,) = run([FLIPS[name][0](probability=1.0) for name in chain])
    wanted = IMAGE
    for name in chain:
        wanted = FLIPS[name][1](wanted)
    np.testing.assert_array_equal(out, unit(wanted))


def test_flips_and_transpose_give_the_eight_symmetries_about_equally_often():
    out = run([FlipLeftRight(), FlipUpDown(), Transpose()], range(400))
    kinds, counts = np.unique(out.reshape(400, -1), axis=0, return_counts=True)
    assert len(kinds) == 8
    assert 25 <= counts.min() <= counts.max() <= 80, counts  # 50 each on average, sd 6.6


@pytest.mark.parametrize("name", FLIPS)
def test_a_flip_happens_with_its_probability(name):
    op = FLIPS[name][0]
    changed = (run([op(probability=0.25)], range(400)) != unit(IMAGE)).any(axis=(1, 2, 3))
    assert 70 <= changed.sum() <= 130  # 100 on average, sd 8.7
    assert not (run([op(probability=0.0)], range(20)) != unit(IMAGE)).any()


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "tf.data"])
def test_brightness_shifts_every_pixel_by_one_seeded_offset(in_graph):
    grey = np.full((4, 4, 3), 128, np.uint8)
    out = run([Brightness(max_delta=0.2)], range(50), image=grey, in_graph=in_graph)
    shifts = (out - unit(grey)).reshape(50, -1)
    assert np.ptp(shifts, axis=1).max() == 0
    assert -0.2 <= shifts.min() < -0.1 < 0.1 < shifts.max() <= 0.2


def test_brightness_stays_within_the_range():
    both = np.stack([np.zeros((2, 1, 3)), np.full((2, 1, 3), 255)], axis=1)[:, :, 0].astype(
        np.uint8
    )
    out = run([Brightness(max_delta=0.9)], range(20), image=both)
    assert out.min() == 0
    assert out.max() == 1
    assert np.isfinite(out).all()


def test_whether_an_op_happens_says_nothing_of_how_much():
    grey = np.full((1, 1, 3), 128, np.uint8)
    out = run([Brightness(max_delta=0.2, probability=0.5)], range(200), image=grey)
    shifts = (out - unit(grey))[:, 0, 0, 0]
    happened = shifts[shifts != 0]
    assert 70 <= len(happened) <= 130
    assert abs(np.mean(happened > 0) - 0.5) < 0.2  # one draw for both would give all or nothing


@pytest.mark.parametrize("op", [FlipLeftRight(), Transpose(), Brightness(max_delta=0.3)])
def test_the_same_seed_gives_the_same_image_eagerly_and_in_tf_data(op):
    places = range(12)
    in_graph = run([op], places)
    np.testing.assert_array_equal(in_graph, run([op], places, in_graph=False))
    assert (in_graph != run([op], places, op_seed=12)).any()


def test_an_op_draws_the_same_whatever_stands_after_it():
    flip = FlipLeftRight()
    alone = run([flip], range(20))
    np.testing.assert_array_equal(alone, run([flip, Brightness(max_delta=0.0)], range(20)))


def test_no_ops_only_scale_to_the_unit_range():
    (out,) = run([])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, IMAGE / 255, rtol=1e-6)


def test_a_turned_image_of_another_type_keeps_it():
    turned = turn_image(tf.constant(IMAGE, tf.float32), Transpose().matrix(tf.zeros(2), 6))
    assert turned.dtype == tf.float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotate:
    """A geometry op that today's chain cannot do unless the angle is a quarter turn."""

    angle_deg: float
    probability: float = 1.0

    def matrix(self, seed, size_px):
        sin, cos = np.sin(np.deg2rad(self.angle_deg)), np.cos(np.deg2rad(self.angle_deg))
        middle = size_px / 2
        shift = [middle - cos * middle - sin * middle, middle + sin * middle - cos * middle]
        return tf.constant([[cos, sin, shift[0]], [-sin, cos, shift[1]], [0, 0, 1]], tf.float32)


@pytest.mark.parametrize("name", GEOMETRY_OPS)
def test_every_geometry_op_turns_or_mirrors_the_square(name):
    check_geometry(build_ops([{"op": name}]))


@pytest.mark.parametrize("angle_deg", [30, 45, 1])
def test_an_op_that_would_need_resampling_is_refused(angle_deg):
    with pytest.raises(SettingsError, match=r"augment\[1\]: Rotate must turn or mirror the square"):
        check_geometry([Brightness(max_delta=0.1), Rotate(angle_deg=angle_deg)])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_quarter_turn_is_exact(turns):
    op = Rotate(angle_deg=90 * turns)
    check_geometry([op])
    (out,) = run([op])
    np.testing.assert_array_equal(out, unit(np.rot90(IMAGE, -turns)))


def test_ops_are_built_from_tables_in_order():
    tables = [{"op": "transpose"}, {"op": "brightness", "max_delta": 0.1, "probability": 0.5}]
    assert build_ops(tables) == (Transpose(), Brightness(max_delta=0.1, probability=0.5))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"op": "flip_leftright"}, r"augment\[0\]: op must be .* did you mean 'flip_left_right'"),
        ({"max_delta": 0.1}, r"augment\[0\]: op must be a known one, got None"),
        ({"op": "brightness"}, r"augment\[0\] \(brightness\): 'max_delta' must be given"),
        ({"op": "brightness", "max_delta": 1.0}, r"max_delta must be in \[0, 1\), got 1.0"),
        (
            {"op": "brightness", "max_dleta": 0.1},
            "unknown key 'max_dleta'; did you mean 'max_delta'",
        ),
        ({"op": "transpose", "probability": 2.0}, r"probability must be in \[0, 1\], got 2.0"),
        ({"op": "flip_up_down", "probability": -0.1}, r"flip_up_down: probability must be in"),
        ({"op": "flip_left_right", "probability": "often"}, "probability must be a number"),
    ],
)
def test_a_table_that_makes_no_op_is_refused(table, message):
    with pytest.raises(SettingsError, match=message):
        build_ops([table])
