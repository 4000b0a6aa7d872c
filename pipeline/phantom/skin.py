"""The patient's skin: how much melanin and blood it holds, and its relief; called by `picture`."""

import dataclasses

import cv2
import numpy as np

from pipeline.phantom.fields import Field, Picture, Shape, fractal_noise, smooth_noise, smooth_step

# Optical density on screen (R, G, B) of one unit of melanin and of blood: melanin takes ever more
# towards blue, blood takes green and blue and leaves red.
MELANIN = np.array([0.40, 0.68, 1.0], np.float32)
BLOOD = np.array([0.08, 1.0, 0.85], np.float32)
HAIR_COLOURS = ((0.07, 0.05, 0.05), (0.16, 0.10, 0.07), (0.30, 0.20, 0.12), (0.62, 0.50, 0.36))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skin:
    """What the images of one patient have in common."""

    melanin: float
    blood: float
    mottle: float  # how uneven the colour is
    freckles: float
    relief: float  # how deep the furrows are
    hairiness: float  # the mean number of hairs in a picture
    hair_rgb: tuple[float, float, float]


def draw_skin(rng: np.random.Generator) -> Skin:
    """Mostly light skin, as in the public collections, with a tail to the darkest."""
    melanin = float(np.clip(rng.lognormal(np.log(0.28), 0.55), 0.1, 1.3))
    dark = melanin > 0.55
    return Skin(
        melanin=melanin,
        blood=float(rng.uniform(0.05, 0.22)),
        mottle=float(rng.uniform(0.4, 1.3)),
        freckles=float(rng.exponential(0.17)) if not dark else 0.0,
        relief=float(rng.uniform(0.4, 1.2)),
        hairiness=float(rng.choice([0, 1, 4, 12, 30], p=[0.35, 0.25, 0.2, 0.13, 0.07])),
        hair_rgb=HAIR_COLOURS[0 if dark else rng.integers(len(HAIR_COLOURS))],
    )


def grow_skin(rng: np.random.Generator, skin: Skin, shape: Shape) -> tuple[Field, Field]:
    """Two float32 [H, W]: melanin and blood of bare skin."""
    side = min(shape)
    uneven = skin.mottle * skin.melanin
    melanin = skin.melanin + 0.06 * uneven * fractal_noise(rng, shape, side / 3, 5)
    melanin += 0.05 * uneven * smooth_noise(rng, shape, side / 90)
    if skin.freckles > 0.1:
        spots = fractal_noise(rng, shape, side / 12, 4, gain=0.8)
        melanin += 0.3 * min(skin.freckles, 1.0) * smooth_step((spots - 0.6) / 2.2)
    blood = skin.blood * (
        1 + 0.13 * skin.mottle * fractal_noise(rng, shape, side / 5, 6, gain=0.75)
    )
    return np.maximum(melanin, 0.02), np.maximum(blood, 0)


def make_relief(rng: np.random.Generator, skin: Skin, shape: Shape) -> Field:
    """Float32 [H, W] around 0: the shade of the fine furrows, lit from one side, as a density.

    Furrows run where two stretched noises cross zero, so they join into the lozenges of real skin.
    """
    side = min(shape)
    furrows = np.zeros(shape, np.float32)
    turn_deg = rng.uniform(0, 180)
    for crossing_deg in (turn_deg, turn_deg + rng.uniform(50, 80)):
        lines = np.abs(stretch_noise(rng, shape, side / 55, crossing_deg, 3.0))
        furrows += np.exp(-((lines / 0.22) ** 2))
    height = -0.5 * furrows + 0.35 * smooth_noise(rng, shape, side / 130)
    slope = cv2.filter2D(height, -1, np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], np.float32))
    return np.asarray(-skin.relief * (0.016 * height + 0.012 * slope))


def stretch_noise(
    rng: np.random.Generator, shape: Shape, scale_px: float, turn_deg: float, stretch: float
) -> Field:
    """Float32 [H, W], mean 0, deviation about 1: blobs drawn out `stretch` times at an angle."""
    reach = int(np.hypot(*shape)) + 2
    source = smooth_noise(rng, (reach, int(reach / stretch) + 1), scale_px)
    centre = (source.shape[1] / 2, source.shape[0] / 2)
    turn = np.deg2rad(turn_deg)
    cos, sin = np.cos(turn), np.sin(turn)
    # Destination pixel -> source pixel: turned about the middle, then squeezed along x.
    back = np.array([[cos / stretch, sin / stretch, 0], [-sin, cos, 0]])
    back[:, 2] = centre - back[:, :2] @ (shape[1] / 2, shape[0] / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(source, back, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)
    )


def shine_through(melanin: Field, blood: Field, shade: Field) -> Picture:
    """Float32 [H, W, 3]: white light after melanin, blood and shade, given as densities."""
    densities = np.stack([MELANIN, BLOOD, np.ones(3, np.float32)], axis=1)
    density = cv2.transform(cv2.merge([melanin, blood, shade]), -densities)
    return np.asarray(cv2.exp(density))
