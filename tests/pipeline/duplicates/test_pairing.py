"""Which thumbnails are paired, and how pairs are told."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from pipeline.duplicates import pairing
from pipeline.duplicates.pairing import find_across, find_within
from pipeline.duplicates.table import keep_first, pairs_to_csv
from pipeline.duplicates.thumbnail import THUMBNAIL_PX

DISTANCE = 7


def pictures(count: int, seed: int = 0, side: int = 96) -> np.ndarray:
    """uint8 [N, side, side] of blurred noise: detail of every size."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side)).astype(np.float32)
    layers = [cv2.GaussianBlur(image, (0, 0), width) * width for image in noise for width in (2, 6)]
    sums = np.array(layers).reshape(count, 2, side, side).sum(axis=1)
    return (128 + 40 * sums / sums.std(axis=(1, 2), keepdims=True)).clip(0, 255).astype(np.uint8)


def small(images: np.ndarray) -> np.ndarray:
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.array([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_pictures_of_their_own_are_not_paired(pool):
    assert find_within(small(pictures(200)), DISTANCE, pool).shape == (0, 3)


def test_no_picture_is_compared_with_itself(pool, monkeypatch):
    compared = []
    monkeypatch.setattr(pairing, "fit_detail", lambda *some: compared.append(some))
    find_within(small(pictures(100)), DISTANCE, pool)
    assert compared == []


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_picture_is_paired_with_its_turn(pool, quarters, is_mirrored):
    images = small(pictures(20))
    turned = np.rot90(images, quarters, axes=(1, 2))
    turned = np.ascontiguousarray(turned[:, :, ::-1] if is_mirrored else turned)
    found = find_across(images, turned, DISTANCE, pool)
    assert found[:, :2].tolist() == [[number, number] for number in range(20)]
    assert found[:, 2].max() <= 1  # 0 but for the rounding of a sum


@pytest.mark.parametrize(("top", "left"), [(0, 0), (4, 4), (7, 0), (7, 7)])
def test_a_picture_is_paired_with_what_is_left_of_it_after_a_crop(pool, top, left):
    images = pictures(40)
    crops = small(images[:, top : top + 89, left : left + 89])  # 7 % of 96 px
    for one, other in ((small(images), crops), (crops, small(images))):
        found = find_across(one, other, DISTANCE, pool)
        assert (found[:, 0] == found[:, 1]).all()
        assert len(found) >= 38, f"{len(found)} of 40 crops were found"


def test_light_and_contrast_part_no_pair(pool):
    images = small(pictures(20)) // 2 + 40
    assert len(find_across(images, (images * 1.1).astype(np.uint8), DISTANCE, pool)) == 20


def test_blank_pictures_are_paired_only_when_they_are_equal(pool):
    dark = np.full((2, THUMBNAIL_PX, THUMBNAIL_PX), 3, np.uint8)
    light = np.full((1, THUMBNAIL_PX, THUMBNAIL_PX), 200, np.uint8)
    found = find_within(np.concatenate([dark, light]), DISTANCE, pool)
    assert found.tolist() == [[0, 1, 0]]


def test_a_thousand_equal_pictures_give_a_thousand_pairs(pool):
    one, other = small(pictures(2))
    found = find_within(np.stack([other, *[one] * 1000]), DISTANCE, pool)
    assert found.tolist() == [[1, number, 0] for number in range(2, 1001)]


def test_every_copy_in_either_dataset_is_in_a_pair(pool):
    one, other, alone = small(pictures(3))
    first, second = np.stack([one, one, alone, other]), np.stack([other, one, one, one])
    found = find_across(first, second, DISTANCE, pool)
    assert found.tolist() == [[0, 1, 0], [0, 2, 0], [0, 3, 0], [1, 1, 0], [3, 0, 0]]


def test_pairs_do_not_depend_on_the_number_of_threads():
    images = small(np.concatenate([pictures(300), pictures(300)[::3]]))
    images[300:] = images[300:][:, ::-1]
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(3) as three:
        np.testing.assert_array_equal(
            find_within(images, DISTANCE, one), find_within(images, DISTANCE, three)
        )


@pytest.mark.parametrize(
    ("pairs", "sets"),
    [
        ([[0, 1], [0, 2], [1, 2]], 1),
        ([[0, 2], [1, 2]], 1),  # 0 and 1 are too far apart
        ([[0, 4], [1, 3], [1, 4], [2, 3]], 1),
        ([[0, 1], [2, 3]], 2),
    ],
)
def test_dropping_every_second_image_keeps_the_first_of_each_set(pairs, sets):
    found, count = keep_first(np.array([[*pair, 5] for pair in pairs]))
    dropped = set(found[:, 1].tolist())
    everyone = {place for pair in pairs for place in pair}
    assert count == sets
    assert len(everyone - dropped) == sets
    assert min(everyone) not in dropped
    assert {frozenset(pair) for pair in found[:, :2].tolist()} == set(map(frozenset, pairs))


def test_the_table_is_in_order_of_its_ids():
    text = pairs_to_csv(np.array([[1, 2, 4], [0, 1, 0]]), ["a", "b", "c"], ["a", "b", "c,d"])
    assert text == 'id_1,id_2,distance\na,b,0\nb,"c,d",4\n'
