"""Test-time views: which pictures a name stands for, in batches, and what is refused."""

import itertools

import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.colour import Brightness
from pipeline.stream.augment.crops import SameSizeCrop
from pipeline.stream.augment.geometry import FlipLeftRight, Rotation
from pipeline.stream.augment.mix import MixUp
from pipeline.stream.batches import evaluation_batches
from pipeline.stream.records import open_records
from pipeline.stream.render import render_views, shrink
from pipeline.stream.views import NAMED, build_views, check_record_size, check_views
from records_factory import write_toy_records

OPS = (FlipLeftRight(), Rotation(max_angle_deg=30), Brightness(max_delta=0.2))
COUNTS = {
    "1": 1, "11": 11, "flips": 8, "crops9": 9, "crops16": 16, "crops25": 25, "crops36": 36,
    "scales4flips4": 16,
}  # fmt: skip


def views_of(name, size_px=16, ops=OPS, seed=0):
    return build_views(name, ops, size_px=size_px, border="reflect", seed=seed)


def noise(size_px, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)


class Given:
    """Pictures that are there, by index."""

    def __init__(self, *images):
        self.images = images

    def pictures(self, keys):
        return [self.images[key] for key in keys]


def rendered(name, *images, **settings):
    """uint8 [B, V, S, S, 3]."""
    keys = np.arange(len(images))
    out = render_views(Given(*images), keys, views_of(name, **settings), keys)
    return out.reshape(len(images), -1, *out.shape[1:])


def windows(image, size_px, steps):
    """Every window of a grid, cut by hand."""
    places = [round(i * (len(image) - size_px) / (steps - 1)) for i in range(steps)]
    return [image[y : y + size_px, x : x + size_px] for y in places for x in places]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy_records(folder, rows=20, size_px=24)
    return open_records(str(folder))


@pytest.mark.parametrize("name", COUNTS)
def test_a_set_has_its_number_of_views_no_two_alike(name):
    [views] = rendered(name, noise(24 if name.startswith(("crops", "scales")) else 16))
    assert views.shape == (COUNTS[name], 16, 16, 3)
    assert len({view.tobytes() for view in views}) == COUNTS[name]
    assert {name for name in COUNTS if not name.isdigit()} == {*NAMED}


def test_one_view_is_the_plain_image():
    image = noise(16)
    np.testing.assert_array_equal(rendered("1", image)[0, 0], image)


def test_flips_are_the_eight_symmetries_of_the_square_to_the_pixel():
    image = noise(16)
    symmetries = [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]
    expected = {np.ascontiguousarray(picture).tobytes() for picture in symmetries}
    [views] = rendered("flips", image)
    assert {view.tobytes() for view in views} == expected
    np.testing.assert_array_equal(views[0], image)


def test_a_symmetric_image_looks_the_same_in_every_flip():
    corner = noise(8)
    corner = np.minimum(corner, corner.transpose(1, 0, 2))
    half = np.concatenate([corner, corner[:, ::-1]], axis=1)
    image = np.concatenate([half, half[::-1]], axis=0)
    assert len({view.tobytes() for view in rendered("flips", image)[0]}) == 1


@pytest.mark.parametrize("steps", [3, 4, 5, 6])
def test_ordered_crops_are_a_grid_of_windows_from_corner_to_corner(steps):
    image = noise(40)
    [views] = rendered(f"crops{steps**2}", image)
    for view, window in zip(views, windows(image, 16, steps), strict=True):
        np.testing.assert_array_equal(view, window)


def test_crops_of_an_oblong_image_reach_both_ends_of_its_long_side():
    image = np.random.default_rng(0).integers(0, 256, (16, 40, 3), np.uint8)
    [views] = rendered("crops9", image)
    for row in range(3):
        for column, x in enumerate((0, 12, 24)):
            np.testing.assert_array_equal(views[3 * row + column], image[:, x : x + 16])


def test_scales_are_central_squares_each_in_four_flips():
    y, x = np.mgrid[:128, :128]
    image = np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8)  # of which any mean is exact
    [views] = rendered("scales4flips4", image)
    sides = (128, 112, 96, 80)
    for place, side in enumerate(sides):
        start = (128 - side) // 2
        square = shrink(np.ascontiguousarray(image[start:][:, start:][:side, :side]), 16)
        by_hand = [square, square[:, ::-1], square[::-1], square[::-1, ::-1]]
        for view, expected in zip(views[4 * place : 4 * place + 4], by_hand, strict=True):
            np.testing.assert_allclose(view.astype(int), expected, atol=2)


def test_random_views_follow_from_seed_row_and_view_alone():
    images = [noise(16, seed) for seed in range(5)]
    views = rendered("3", *images)
    np.testing.assert_array_equal(views, rendered("5", *images)[:, :3])  # of how many: no matter
    keys = np.array([3, 1])  # nor in which company
    again = render_views(Given(*images), keys, views_of("3"), keys).reshape(2, 3, 16, 16, 3)
    np.testing.assert_array_equal(again, views[[3, 1]])
    assert (rendered("3", *images, seed=1) != views).any()


def test_random_views_draw_by_trainings_own_ops():
    image, views = noise(16), views_of("2")
    for place, view in enumerate(views):
        out = np.empty((1, 16, 16, 3), np.uint8)
        chain = Chain(OPS, size_px=16)
        chain.apply([image], view.op_seeds, np.array([0]), out)
        np.testing.assert_array_equal(out[0], rendered("2", image)[0, place])


def test_a_batch_has_every_view_of_its_examples_and_pads_the_rest(records):
    views = views_of("crops9")
    table = np.arange(40, dtype=np.float32).reshape(20, 2)
    arguments = {"batch_size": 4, "image_size_px": 16, "metadata": table, "cache": "none"}
    batches = evaluation_batches(records, ["fold0"], views=views, **arguments)
    plain = {}
    whole = evaluation_batches(records, ["fold0"], batch_size=1, cache="none")
    for inputs, _, _ in whole.as_numpy_iterator():
        plain[inputs["row"][0]] = inputs["image"][0]
    seen = []
    for inputs, targets, mask in batches.as_numpy_iterator():
        assert inputs["image"].shape == (36, 16, 16, 3)
        rows = inputs["row"].reshape(4, 9)
        assert (rows == rows[:, :1]).all()
        assert targets["target"].shape == mask.shape == (36,)
        for place, row in enumerate(rows[:, 0]):
            pictures = inputs["image"].reshape(4, 9, 16, 16, 3)[place]
            if row < 0:
                assert mask[9 * place] == 0
                continue
            seen.append(row)
            np.testing.assert_array_equal(pictures, windows(plain[row], 16, 3))
            np.testing.assert_array_equal(inputs["metadata"][9 * place + 8], table[row])
    assert sorted(seen) == sorted(plain)
    assert len(seen) == 6


def test_one_view_is_what_evaluation_gives_without_views(records):
    arguments = {"batch_size": 5, "image_size_px": 16, "cache": "none"}
    for size in (16, 24):
        arguments["image_size_px"] = size
        pairs = itertools.zip_longest(
            evaluation_batches(records, ["fold1"], **arguments).as_numpy_iterator(),
            evaluation_batches(
                records, ["fold1"], views=views_of("1", size), **arguments
            ).as_numpy_iterator(),
        )
        for (inputs, _, _), (others, _, _) in pairs:
            np.testing.assert_array_equal(inputs["image"], others["image"])


@pytest.mark.parametrize("name", ["0", "01", "-1", "²", "", "crops10", "flip"])
def test_an_unknown_set_names_the_nearest(name):
    with pytest.raises(SettingsError, match=r"--views must be a number of 1 or more, or one of"):
        check_views(name)


@pytest.mark.parametrize("ops", [(), (MixUp(alpha=0.2),)], ids=["none", "of batches"])
def test_random_views_of_a_recipe_that_draws_none_are_refused(ops):
    with pytest.raises(SettingsError, match=r"must have \[\[augment\]\] ops to draw 4 views by"):
        views_of("4", ops=ops)
    assert len(views_of("flips", ops=ops)) == 8


def test_records_that_are_too_small_for_the_views_are_refused():
    def check(name, size_px, has_more=False):
        check_record_size(name, size_px=size_px, stored_px=32, has_more=has_more, where="out/32")

    check("crops9", 24)
    check("crops9", 32, has_more=True)
    check("scales4flips4", 32)
    with pytest.raises(SettingsError, match=r"out/32: records must be of 48 px or more, .* got 32"):
        check("crops9", 48)
    with pytest.raises(SettingsError, match=r"larger than the model's 32 px, got 32, .*--sizes 40"):
        check("crops25", 32)


def test_a_recipes_crop_of_stored_pixels_draws_views_of_them():
    image = noise(40)
    cut = {window.tobytes() for window in (image[y : y + 16, x : x + 16].copy()
           for y in range(25) for x in range(25))}  # fmt: skip
    assert {view.tobytes() for view in rendered("6", image, ops=(SameSizeCrop(),))[0]} <= cut
