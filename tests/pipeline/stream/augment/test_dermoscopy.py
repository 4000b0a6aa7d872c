"""Hairs and the microscope's rim: how dark, how thin, how much; and nothing else."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.stream.augment.dermoscopy import Hair, Vignette


def drawn(op, seed=0, size_px=128, level=200):
    """uint8 [S, S, 3]: a flat skin after the op."""
    image = np.full((size_px, size_px, 3), level, np.uint8)
    op.change(image, np.random.default_rng(seed))
    return image


def test_hair_only_darkens_and_blue_most():
    out = drawn(Hair(number=(10, 10)))
    assert out.max() == 200
    is_hair = out[..., 2] < 150
    assert is_hair.any()
    assert (out[is_hair][:, 0] >= out[is_hair][:, 2]).all()


def test_the_darkness_of_a_hair_is_the_light_that_it_takes():
    op = Hair(number=(5, 5), width=(0.05, 0.05), darkness=(0.5, 0.5))
    assert drawn(op)[..., 2].min() == pytest.approx(100, abs=2)
    np.testing.assert_array_equal(drawn(Hair(number=(9, 9), darkness=(0.0, 0.0))), 200)


def test_hairs_are_as_thin_as_asked_and_smooth_at_their_edges():
    op = Hair(number=(1, 1), width=(0.03, 0.03), darkness=(1.0, 1.0))
    for seed in range(20):
        cover = 1 - drawn(op, seed)[..., 2] / 200
        if not (cover > 0.9).any():  # of a hair that only touches the image
            continue
        depth_px = ndimage.distance_transform_edt(cover > 0.5)
        assert depth_px.max() <= 0.03 * 128 / 2 + 1
        assert ((cover > 0.1) & (cover < 0.9)).any()


def test_hairs_cover_the_same_share_at_every_size():
    op = Hair(number=(8, 8), width=(0.01, 0.02))
    small, large = (np.mean([drawn(op, s, px) for s in range(10)]) for px in (64, 256))
    assert 200 - small == pytest.approx(200 - large, rel=0.05)


def test_more_hairs_cover_more():
    few, many = (np.mean([drawn(Hair(number=n), s) for s in range(10)]) for n in ((2, 2), (20, 20)))
    assert 200 - many > 5 * (200 - few)


def test_a_vignette_is_black_outside_of_its_circle_and_nothing_inside():
    out = drawn(Vignette(radius=(0.8, 0.8), softness=0.02))
    y, x = np.mgrid[:128, :128] - 63.5
    distance = np.hypot(x, y) / 64
    assert (out[distance < 0.72] == 200).all()
    assert (out[distance > 0.88] == 0).all()
    assert (out < 100).mean() == pytest.approx(1 - np.pi * 0.4**2, abs=0.01)


def test_the_edge_of_a_vignette_is_soft():
    sharp, soft = (drawn(Vignette(radius=(0.7, 0.7), softness=s))[64, :, 0] for s in (0.0, 0.1))
    assert ((sharp > 20) & (sharp < 180)).sum() <= 4
    assert ((soft > 20) & (soft < 180)).sum() >= 16
    assert (np.diff(soft[64:].astype(int)) <= 0).all()


def test_radii_are_drawn_between_their_bounds():
    op = Vignette(radius=(0.5, 1.0))
    black = np.array([(drawn(op, seed, 64) < 100).mean() for seed in range(100)])
    radius = 2 * np.sqrt((1 - black) / np.pi)
    assert 0.49 < radius.min() < 0.55
    assert 0.95 < radius.max() < 1.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hair(number=(5, 2)), r"hair: number must be .* in order, got \[5, 2\]"),
        (lambda: Hair(number=(1, 2), width=(0.0, 0.1)), "hair: width must be two numbers"),
        (lambda: Hair(number=(1, 2), darkness=(0.5, 1.5)), "hair: darkness must be two numbers"),
        (lambda: Vignette(radius=(0.0, 1.0)), "vignette: radius must be two numbers"),
        (lambda: Vignette(softness=1.0), r"vignette: softness must be in \[0, 0.5\], got 1.0"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
