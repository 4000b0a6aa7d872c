"""The lesion: its outline, its pigment, and how suspicious it looks; called by `picture`.

What the label changes is here and nowhere else: asymmetry, border, number of colours and order of
the structures (A, B, C, D of Stolz's rule of dermoscopy). Each is graded and has its own chance, so
a benign lesion may look worse than a malignant one.
"""

import dataclasses
import math

import cv2
import numpy as np

from pipeline.phantom.fields import Field, Shape, fractal_noise, smooth_noise, smooth_step
from pipeline.phantom.structures import draw_globules, draw_network

OUTLINE_ANGLES = 2048
REACH = 2.2  # radii from the middle beyond which no outline or lobe goes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion's look; the grades are in [0, 1]."""

    asymmetry: float
    border: float
    colours: float
    disorder: float  # of network, dots and globules
    radius: float  # in short sides of the picture
    axis_ratio: float
    turn: float  # radians
    centre: tuple[float, float]  # x, y in short sides, from the middle
    density: float  # melanin above the skin's
    blood: float
    edge: float  # width of the soft border, in radii
    network: float  # contrast
    globules: float  # how many, 0 to 1


@dataclasses.dataclass(frozen=True)
class Pigment:
    """What a lesion adds to the skin inside `box`: float32 [h, w] each."""

    box: tuple[slice, slice]  # rows, columns of the picture
    melanin: Field
    blood: Field
    veil: Field  # opacity of the blue-grey veil, in [0, 1]


def draw_lesion(rng: np.random.Generator, *, malignant: bool) -> Lesion:
    atypia = rng.beta(6.0, 2.0) if malignant else rng.beta(2.0, 6.0)
    asymmetry, border, colours, disorder = np.clip(atypia + rng.normal(0, 0.12, 4), 0, 1)
    # Atypical lesions are a little larger and darker: by more, mean colour would give them away.
    return Lesion(
        asymmetry=float(asymmetry),
        border=float(border),
        colours=float(colours),
        disorder=float(disorder),
        radius=float(np.clip(0.20 * math.exp(rng.normal(0.72 * (atypia - 0.3), 0.3)), 0.09, 0.42)),
        axis_ratio=float(rng.uniform(0.62, 1.0)),
        turn=float(rng.uniform(0, math.pi)),
        centre=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        density=float(np.clip(rng.lognormal(0.38 * (atypia - 0.3), 0.35), 0.45, 2.4)),
        blood=float(rng.uniform(0.0, 0.22)),
        edge=float(rng.uniform(0.2, 0.6)),
        network=float(rng.choice([0.0, 0.25, 0.5], p=[0.3, 0.4, 0.3])),
        globules=float(rng.choice([0.0, 0.3, 1.0], p=[0.5, 0.35, 0.15])),
    )


def grow_lesion(rng: np.random.Generator, lesion: Lesion, shape: Shape) -> Pigment:
    """The lesion in a picture of `shape`; only the box that it can reach is worked out."""
    side = min(shape)
    box, x, y = cut_box(lesion, shape)
    shape = x.shape
    radius_px = lesion.radius * side
    u, v = bend_frame(rng, lesion, x, y, radius_px)
    inside = measure_inside(rng, lesion, u, v)
    inside += (0.03 + 0.05 * lesion.border) * fractal_noise(rng, shape, radius_px / 4, 4, gain=0.8)
    # A malignant border fades in one sector and breaks off in the next.
    sharpness = np.exp(0.7 * lesion.border * smooth_noise(rng, shape, radius_px))
    cover = smooth_step(inside * sharpness / lesion.edge + 0.5)

    blotches = fractal_noise(rng, shape, 0.7 * radius_px, 5, gain=0.75)
    lean = 0.6 * lesion.asymmetry * rng.uniform(-1, 1)
    melanin = 0.8 + rng.uniform(-0.2, 0.8) * (inside - 0.3) + lean * u
    melanin += (0.08 + 0.36 * lesion.colours) * blotches
    blood = np.full(shape, lesion.blood, np.float32)
    veil = np.zeros(shape, np.float32)
    for _ in range(rng.poisson(0.1 + 4.6 * lesion.colours**1.5)):
        patch = draw_patch(rng, u, v, blotches)
        match rng.choice(["dark", "pale", "red", "veil"], p=[0.37, 0.3, 0.15, 0.18]):
            case "dark":
                melanin += rng.uniform(0.5, 1.2) * patch
            case "pale":
                melanin *= 1 - rng.uniform(0.5, 0.85) * patch
            case "red":
                blood += rng.uniform(0.15, 0.4) * patch
                melanin *= 1 - 0.3 * patch
            case "veil":
                haze = np.clip(0.8 + 0.15 * blotches, 0, 1.3)  # thicker here, thinner there
                np.maximum(veil, rng.uniform(0.4, 0.75) * patch * haze, out=veil)

    if lesion.network:
        melanin *= 1 + lesion.network * draw_network(rng, shape, side, lesion.disorder)
    if lesion.globules:
        melanin += draw_globules(rng, lesion.globules, lesion.disorder, u, v, side)
    np.maximum(melanin, 0.08, out=melanin)
    melanin *= lesion.density
    return Pigment(box, melanin * cover, blood * cover, veil * cover)


def draw_patch(rng: np.random.Generator, u: Field, v: Field, blotches: Field) -> Field:
    """Float32 [h, w] in [0, 1]: one ragged, off-centre patch, for a colour of its own."""
    angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.75)
    away = np.hypot(u - reach * math.cos(angle), v - reach * math.sin(angle))
    return smooth_step((rng.uniform(0.22, 0.5) - away + 0.16 * blotches) / 0.4 + 0.5)


def cut_box(lesion: Lesion, shape: Shape) -> tuple[tuple[slice, slice], Field, Field]:
    """The rows and columns within reach; two float32 [h, w], x and y in radii from the middle."""
    spans, axes = [], []
    for length, centre in zip(shape, lesion.centre[::-1], strict=True):
        middle_px = length / 2 + centre * min(shape)
        reach_px = REACH * lesion.radius * min(shape)
        span = slice(max(0, int(middle_px - reach_px)), min(length, int(middle_px + reach_px) + 1))
        spans.append(span)
        places = (np.arange(span.start, span.stop) - middle_px) / (lesion.radius * min(shape))
        axes.append(places.astype(np.float32))
    x, y = np.meshgrid(axes[1], axes[0])
    return (spans[0], spans[1]), x, y


def bend_frame(
    rng: np.random.Generator, lesion: Lesion, x: Field, y: Field, radius_px: float
) -> tuple[Field, Field]:
    """Two float32 [h, w]: places in radii, in the lesion's own turned, squeezed and bent frame."""
    cos, sin = math.cos(lesion.turn), math.sin(lesion.turn)
    bend = 0.05 + 0.18 * lesion.border
    u = cos * x + sin * y + bend * fractal_noise(rng, x.shape, 0.9 * radius_px, 3)
    v = (cos * y - sin * x) / lesion.axis_ratio
    return u, v + bend * fractal_noise(rng, x.shape, 0.9 * radius_px, 3)


def measure_inside(rng: np.random.Generator, lesion: Lesion, u: Field, v: Field) -> Field:
    """Float32 [h, w]: how far inside the outline, in radii; negative outside."""
    away, angle = cv2.cartToPolar(u, v)
    outline = draw_outline(rng, lesion)
    index = (angle * np.float32(OUTLINE_ANGLES / (2 * math.pi))).astype(np.int32)
    inside = outline.take(index, mode="wrap") - away
    for _ in range(
        rng.poisson(0.05 + 2.6 * lesion.asymmetry**1.5)
    ):  # lobes that grow out of the side
        at, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.05)
        lobe = rng.uniform(0.35, 0.65) - np.hypot(
            u - reach * math.cos(at), v - reach * math.sin(at)
        )
        blend = np.clip(0.5 + (lobe - inside) / 0.4, 0, 1)  # a smooth maximum: no crease
        inside += blend * (lobe - inside) + 0.2 * blend * (1 - blend)
    return np.asarray(inside)


def draw_outline(rng: np.random.Generator, lesion: Lesion) -> Field:
    """Float32 [OUTLINE_ANGLES]: the radius by angle, about 1, with streaks in some sectors."""
    angle = np.linspace(0, 2 * math.pi, OUTLINE_ANGLES, endpoint=False)
    outline = np.ones(OUTLINE_ANGLES)
    for k in range(2, 8):
        swing = rng.normal(0, (0.04 + 0.30 * lesion.border) / k)
        outline += swing * np.cos(k * angle + rng.uniform(0, 2 * math.pi))
    sector = np.clip(np.cos(angle + rng.uniform(0, 2 * math.pi)) - 0.2, 0, 1)
    teeth = rng.standard_normal(60)
    streaks = np.interp(angle, np.linspace(0, 2 * math.pi, 61), np.append(teeth, teeth[0]))
    outline += 0.10 * lesion.border * sector * streaks
    return np.clip(outline, 0.3, 1.7).astype(np.float32)
