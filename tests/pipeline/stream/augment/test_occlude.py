"""What is hidden: how much, where, with what; and that the rest stays as it was."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.stream.augment.occlude import CoarseDropout, RandomErasing

IMAGE = np.random.default_rng(0).integers(1, 256, (64, 64, 3), np.uint8)


def hidden(op, seed, image=IMAGE):
    """bool [S, S], where the image changed to black."""
    out = image.copy()
    op.change(out, np.random.default_rng(seed))
    is_hidden = (out == 0).all(axis=2)
    np.testing.assert_array_equal(out[~is_hidden], image[~is_hidden])
    return is_hidden


def test_holes_are_as_many_and_as_large_as_asked():
    op = CoarseDropout(number=(1, 3), size=(0.125, 0.25), fill="black")
    numbers = set()
    for seed in range(60):
        labels, number = ndimage.label(hidden(op, seed))
        numbers.add(number)
        assert 1 <= number <= 3  # fewer where they touch
        if number == 3:
            for rows, columns in ndimage.find_objects(labels):
                assert max(rows.stop - rows.start, columns.stop - columns.start) <= 16
    assert numbers == {1, 2, 3}


def test_holes_lie_everywhere_also_over_the_edge():
    op = CoarseDropout(number=(1, 1), size=(0.25, 0.25), fill="black")
    times = sum(hidden(op, seed).astype(int) for seed in range(800))
    assert times[0, 0] > 0
    assert times[-1, -1] > 0
    middle = times[16:48, 16:48]
    assert middle.mean() == pytest.approx(800 / 16, rel=0.1)  # a sixteenth of the image each time
    assert middle.min() > 20


def test_a_circle_is_round():
    op = CoarseDropout(number=(1, 1), size=(0.5, 0.5), shape="circle", fill="black")
    areas = [hidden(op, seed) for seed in range(40)]
    whole = max(areas, key=np.sum)
    assert whole.sum() == pytest.approx(np.pi / 4 * 32**2, rel=0.02)
    y, x = np.nonzero(whole)
    centre_y, centre_x = (y.min() + y.max()) / 2, (x.min() + x.max()) / 2
    assert np.hypot(y - centre_y, x - centre_x).max() <= 16


@pytest.mark.parametrize("op", [CoarseDropout(number=(3, 3), size=(0.2, 0.3)),
                                RandomErasing(fill="mean")])  # fmt: skip
def test_what_is_hidden_may_have_the_mean_colour_of_the_image(op):
    out = IMAGE.copy()
    op.change(out, np.random.default_rng(1))
    changed = out[(out != IMAGE).any(axis=2)]
    assert len(changed) > 50
    np.testing.assert_allclose(changed, np.broadcast_to(IMAGE.mean((0, 1)), changed.shape), atol=1)


def test_noise_fills_with_every_level():
    out = np.zeros_like(IMAGE)
    RandomErasing(area=(0.3, 0.3)).change(out, np.random.default_rng(1))
    filled = out[out.any(axis=2)]
    assert filled.std() == pytest.approx(255 / 12**0.5, rel=0.05)


def test_erasing_hides_one_rectangle_of_the_asked_area_and_shape():
    op = RandomErasing(area=(0.1, 0.3), aspect=(0.5, 2.0), fill="black")
    tall = 0
    for seed in range(200):
        is_hidden = hidden(op, seed)
        (found,) = ndimage.find_objects(is_hidden.astype(int))
        height, width = is_hidden[found].shape
        assert is_hidden[found].all()
        assert 0.09 < height * width / 64**2 < 0.31
        assert 0.45 < width / height < 2.2
        tall += height > width
    assert 70 <= tall <= 130  # 100 on average, sd 7


def test_a_rectangle_that_never_fits_is_not_drawn():
    op = RandomErasing(area=(1.0, 1.0), aspect=(3.0, 3.0), fill="black")
    assert not hidden(op, 0).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoarseDropout(number=(0, 3), size=(0.1, 0.2)), r"number must be .*\[0, 3\]"),
        (lambda: CoarseDropout(number=(1, 3), size=(0.1, 1.2)), r"coarse_dropout: size must be"),
        (lambda: RandomErasing(area=(0.5, 0.1)), r"random_erasing: area .* got \[0.5, 0.1\]"),
        (lambda: RandomErasing(aspect=(0.0, 1.0)), r"random_erasing: aspect must be two numbers"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
