"""One picture: from its own seed, and with nothing but the lesion knowing the label."""

import cv2
import numpy as np
import pytest

from pipeline.phantom.camera import draw_camera, tone_curve
from pipeline.phantom.fields import fractal_noise, lay_colour, smooth_noise
from pipeline.phantom.lesion import draw_lesion, grow_lesion
from pipeline.phantom.picture import draw_picture
from pipeline.phantom.skin import draw_skin, shine_through
from pipeline.phantom.structures import draw_network

SMALL = ((96, 72),)


def draw(number=0, patient=0, malignant=False, seed=7, sizes=SMALL):
    return draw_picture(seed=seed, number=number, patient=patient, malignant=malignant, sizes=sizes)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(160, 120), (90, 120), (1504, 1129), (33, 32)])
def test_a_picture_has_the_wanted_size(size):
    picture = draw(sizes=(size,))
    assert picture.dtype == np.uint8
    assert picture.shape == (size[1], size[0], 3)


def test_a_picture_depends_on_nothing_drawn_before_it():
    first = draw(number=3)
    draw(number=4)
    np.testing.assert_array_equal(draw(number=3), first)
    assert (draw(number=5) != first).any()
    assert (draw(number=3, seed=8) != first).any()


def test_the_label_changes_the_lesion_and_leaves_the_rest_of_the_picture():
    # Corner pixels are skin, light and clutter; in nearly all pictures no lesion reaches them.
    same = []
    for number in range(40):
        benign, malignant = (
            draw(number=number, patient=number, malignant=label) for label in (False, True)
        )
        assert (benign != malignant).any()
        same.append((benign[:4, :4] == malignant[:4, :4]).all())
    assert np.mean(same) > 0.9


def test_pictures_of_one_patient_share_the_skin():
    def edge_hue(number, patient):
        edge = draw(number=number, patient=patient)[28:44, :12].mean(axis=(0, 1))
        return np.log(edge[0] / edge[2])

    hues = np.array([[edge_hue(5 * p + i, p) for i in range(5)] for p in range(16)])
    assert hues.mean(axis=1).var() > 2 * hues.var(axis=1).mean() / 5


def test_malignant_lesions_are_graded_worse_but_overlap():
    grades = {
        label: [draw_lesion(rng(i), malignant=label).colours for i in range(400)]
        for label in (False, True)
    }
    worse = np.mean(np.greater.outer(grades[True], grades[False]))
    assert 0.88 < worse < 0.98, worse


def test_a_border_of_a_high_grade_is_longer_for_its_area():
    def raggedness(malignant):
        ratios = []
        for seed in range(30):
            lesion = draw_lesion(rng(seed), malignant=malignant)
            melanin = grow_lesion(rng(seed), lesion, (240, 320)).melanin
            inside = (melanin > 0.2 * lesion.density).astype(np.uint8)
            outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            largest = max(outlines, key=cv2.contourArea)
            around = cv2.arcLength(largest, True)
            ratios.append(around**2 / (4 * np.pi * cv2.contourArea(largest)))
        return np.median(ratios)

    assert raggedness(True) > 1.3 * raggedness(False)


def test_pigment_and_blood_darken_as_densities():
    one = np.full((2, 2), 1.0, np.float32)
    none = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(shine_through(none, none, none), 1)
    red, green, blue = shine_through(one, none, none)[0, 0]
    assert red > green > blue  # melanin is brown
    twice = shine_through(2 * one, none, none)[0, 0]
    np.testing.assert_allclose(twice, np.square([red, green, blue]), rtol=1e-5)


@pytest.mark.parametrize("scale_px", [1.0, 4.0, 25.0, 120.0])
def test_noise_is_centred_with_unit_spread_at_each_scale(scale_px):
    fields = [smooth_noise(rng(seed), (150, 200), scale_px) for seed in range(30)]
    assert fields[0].shape == (150, 200)
    assert np.mean(fields) == pytest.approx(0, abs=0.2)
    assert np.std(fields) == pytest.approx(1, abs=0.25)


def test_noise_of_a_larger_scale_changes_more_slowly():
    def roughness(scale_px):
        return np.abs(np.diff(fractal_noise(rng(1), (128, 128), scale_px, 2))).mean()

    assert roughness(40) < roughness(20) / 1.5 < roughness(10) / 2.25


def test_laying_colour_mixes_in_place_even_into_a_part():
    picture = np.ones((6, 8, 3), np.float32)
    lay_colour(picture[2:4, 1:5], np.full((2, 4), 0.25, np.float32), (0.0, 0.4, 1.0))
    np.testing.assert_allclose(picture[2, 1], [0.75, 0.85, 1.0], rtol=1e-6)
    assert (picture != 1).any(axis=2).sum() == 8


def test_the_tone_curve_rises_and_never_clips_to_white():
    curve = tone_curve().astype(int)
    assert (np.diff(curve) >= 0).all()
    assert curve[0] > 0
    assert curve[-1] < 255


def test_network_lines_are_as_dark_as_its_holes_are_pale():
    network = draw_network(rng(), (200, 200), 400, disorder=0.0)
    assert network.min() < -0.3
    assert network.max() > 0.1


def test_skin_tones_go_from_pale_to_dark():
    melanin = [draw_skin(rng(i)).melanin for i in range(500)]
    assert np.percentile(melanin, 5) < 0.15
    assert np.percentile(melanin, 98) > 0.7


def test_cameras_use_every_size():
    sizes = ((64, 48), (48, 64), (80, 80))
    assert {draw_camera(rng(i), sizes).size_px for i in range(40)} == set(sizes)
