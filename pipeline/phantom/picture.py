"""One picture from one row: skin, lesion, what lies on it, camera; called by `write`."""

import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.camera import draw_camera, expose
from pipeline.phantom.clutter import add_bubbles, lay_hairs, lay_ruler
from pipeline.phantom.fields import lay_colour
from pipeline.phantom.lesion import draw_lesion, grow_lesion
from pipeline.phantom.skin import draw_skin, grow_skin, make_relief, shine_through

DRAWN_LONG_SIDE_PX = 544
VEIL_RGB = (0.36, 0.375, 0.42)


def draw_picture(
    *, seed: int, number: int, patient: int, malignant: bool, sizes: tuple[tuple[int, int], ...]
) -> NDArray[np.uint8]:
    """Uint8 [H, W, 3], RGB, of one of `sizes`; depends on nothing but its arguments."""
    skin = draw_skin(np.random.default_rng([seed, 1, patient]))
    rng = np.random.default_rng([seed, 2, number])
    camera = draw_camera(rng, sizes)
    lesion_rng = np.random.default_rng([seed, 3, number])
    width, height = camera.size_px
    shrink = min(1.0, DRAWN_LONG_SIDE_PX / max(width, height))
    shape = (round(height * shrink), round(width * shrink))

    melanin, blood = grow_skin(rng, skin, shape)
    lesion = draw_lesion(lesion_rng, malignant=malignant)
    pigment = grow_lesion(lesion_rng, lesion, shape)
    melanin[pigment.box] += pigment.melanin
    blood[pigment.box] += pigment.blood
    picture = shine_through(melanin, blood, make_relief(rng, skin, shape))
    if pigment.veil.any():
        lay_colour(picture[pigment.box], pigment.veil, VEIL_RGB)
    lay_hairs(rng, picture, skin)
    if rng.random() < 0.12:
        add_bubbles(rng, picture)
    if rng.random() < 0.18:
        lay_ruler(rng, picture)
    return expose(rng, camera, picture)
