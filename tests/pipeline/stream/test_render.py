"""Rendering: decoding, shrinking, and chunks on several threads."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image as PillowImage

from pipeline.images.image_error import ImageError
from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.colour import Brightness
from pipeline.stream.augment.geometry import FlipLeftRight
from pipeline.stream.render import CHUNK, decode, in_chunks, render_batch, shrink


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def pillow_file(kind, mode):
    with io.BytesIO() as file:
        PillowImage.fromarray(np.full((16, 24, 3), 77, np.uint8)).convert(mode).save(file, kind)
        return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "L")]
)
def test_an_image_is_decoded_to_three_channels(kind, mode):
    image = decode(pillow_file(kind, mode), None)
    assert (image.dtype, image.shape) == (np.uint8, (16, 24, 3))
    np.testing.assert_allclose(image, 77, atol=2)


def test_decoding_agrees_with_libjpegs_accurate_transform_to_the_bit():
    data = simplejpeg.encode_jpeg(noise(32, 32), 90, "RGB", "444")
    np.testing.assert_array_equal(decode(data, 32), simplejpeg.decode_jpeg(data, fastdct=False))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB")])
def test_swapped_channels_are_swapped_back(kind, mode):
    with io.BytesIO() as file:
        PillowImage.fromarray(np.full((16, 16, 3), [200, 100, 20], np.uint8)).save(file, kind)
        image = decode(file.getvalue(), None, is_swapped=True)
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [20, 100, 200], atol=3)


def test_bytes_that_are_no_image_are_refused():
    with pytest.raises(ImageError):
        decode(b"<html>", None)


def test_shrinking_gives_the_mean_of_the_area():
    image = noise(6, 6)
    means = image.reshape(2, 3, 2, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrink(image, 2), means, atol=0.51)


@pytest.mark.parametrize(("size_px", "small_px"), [(25, 10), (32, 31), (50, 7)])
def test_shrinking_by_no_whole_factor_weighs_pixels_by_their_area(size_px, small_px):
    image = noise(size_px, size_px)
    edges = np.linspace(0, size_px, small_px + 1)
    left, right = edges[:-1, None], edges[1:, None]
    cells = np.arange(size_px)
    weights = np.clip(np.minimum(right, cells + 1) - np.maximum(left, cells), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    wanted = np.einsum("ai,bj,ijc->abc", weights, weights, image.astype(np.float64))
    np.testing.assert_allclose(shrink(image, small_px), wanted, atol=0.75)


def test_an_oblong_image_gives_its_central_square():
    image = noise(8, 14)
    np.testing.assert_array_equal(shrink(image, 8), image[:, 3:11])


def test_an_image_smaller_than_its_batch_is_refused():
    with pytest.raises(ValueError, match=r"at least 16 px, got 8"):
        shrink(noise(8, 8), 16)


@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, 3 * CHUNK + 1])
def test_chunks_cover_a_batch_once(count):
    seen = np.zeros(count, int)

    def work(part):
        seen[part] += 1

    in_chunks(work, count)
    assert (seen == 1).all()


def test_an_error_in_a_chunk_is_raised():
    def work(part):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        in_chunks(work, 3)


class Pictures:
    def __init__(self, images):
        self.images = images

    def pictures(self, keys):
        return [self.images[key] for key in keys]

    def fill(self, keys, out):
        out[:] = self.images[keys]


def test_what_is_rendered_does_not_depend_on_the_chunks_of_a_batch():
    source = Pictures(noise(40, 8 * 8).reshape(40, 8, 8, 3))
    chain = Chain([FlipLeftRight(), Brightness(max_delta=0.3)], size_px=8)
    keys = np.arange(40)
    whole = render_batch(source, keys, chain, [1, 2], keys)
    for start, stop in ((0, 5), (5, 33), (33, 40)):
        part = render_batch(source, keys[start:stop], chain, [1, 2], keys[start:stop])
        np.testing.assert_array_equal(part, whole[start:stop])
    assert (whole != source.images).any()


def test_without_ops_pictures_come_as_they_are():
    source = Pictures(noise(20, 8 * 8).reshape(20, 8, 8, 3))
    keys = np.array([3, 3, 19, 0])
    out = render_batch(source, keys, Chain((), size_px=8), [], keys)
    np.testing.assert_array_equal(out, source.images[keys])
