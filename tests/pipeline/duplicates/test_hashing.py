"""Hashes of thumbnails: what turns, light and crops do to them."""

import numpy as np
import pytest

from pipeline.duplicates.hashing import HASH_BITS, TURNS, VIEWS, hash_turns, hash_views, turn
from pipeline.duplicates.thumbnail import THUMBNAIL_PX


def noise(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, THUMBNAIL_PX, THUMBNAIL_PX)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("number", range(len(TURNS)))
def test_the_hash_of_a_turn_is_the_hash_of_the_turned_image(number):
    images = noise(20)
    turned = hash_turns(np.ascontiguousarray(turn(images, number)))
    np.testing.assert_array_equal(hash_turns(images)[:, number], turned[:, 0])


def test_the_eight_turns_are_all_different():
    image = noise(1)
    assert len({turn(image, number).tobytes() for number in range(len(TURNS))}) == 8


def test_the_first_view_is_the_whole_image():
    images = noise(20)
    np.testing.assert_array_equal(hash_views(images)[:, 0], hash_turns(images)[:, 0])


def test_a_bit_is_the_sign_of_one_wave():
    places = (np.arange(THUMBNAIL_PX) + 0.5) / THUMBNAIL_PX
    wave = 128 + 60 * np.cos(3 * np.pi * places)[:, None] * np.cos(2 * np.pi * places)
    up, down = (
        hash_views(image.round().astype(np.uint8)[None])[0, 0] for image in (wave, 256 - wave)
    )
    counts = np.bitwise_count(up ^ down)
    assert counts >= 1, "the wave's own sign must change"


def test_light_and_contrast_do_not_change_a_hash():
    images = noise(50) // 2
    np.testing.assert_array_equal(hash_views(images), hash_views(images * 2))
    np.testing.assert_array_equal(hash_views(images)[:, 0], hash_views(images + 40)[:, 0])


def test_different_images_differ_in_half_of_their_bits():
    hashes = hash_views(noise(400))[:, 0]
    bits = np.bitwise_count(hashes[:200] ^ hashes[200:])
    assert abs(bits.mean() - HASH_BITS / 2) < 1.5, bits.mean()


def test_a_view_is_the_whole_of_the_image_that_was_cropped_to_it():
    # A smooth image, drawn by the same formula whole and within the view: no resampling is between.
    def draw(box: tuple[float, float, float, float]) -> np.ndarray:
        x0, y0, x1, y1 = box
        places = (np.arange(THUMBNAIL_PX) + 0.5) / THUMBNAIL_PX
        x, y = (x0 + (x1 - x0) * places), (y0 + (y1 - y0) * places)[:, None]
        waves = np.random.default_rng(3).normal(size=(12, 4))
        levels = sum(a * np.sin(9 * b * x + 9 * c * y + d) for a, b, c, d in waves)
        return (128 + 20 * levels).clip(0, 255).astype(np.uint8)[None]

    whole = hash_views(draw(VIEWS[0]))[0]
    for number, box in enumerate(VIEWS):
        bits = np.bitwise_count(whole[number] ^ hash_views(draw(box))[0, 0])
        assert bits <= 4, (number, bits)
