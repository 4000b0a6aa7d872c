"""The camera: light, colour cast, vignette, focus, grain and size; called by `picture`.

Knows nothing of the label.
"""

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.fields import Picture, smooth_step, triple

GREY = np.array([0.3, 0.59, 0.11], np.float32)  # luma weights of ITU-R BT.601
MID_TONE = 0.55  # where contrast pivots
HEADROOM = 1.3  # the most light that is told from more, where 1 is white
SHOULDER = 0.8  # where the tone curve begins to bend


@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """How one picture was taken."""

    size_px: tuple[int, int]  # width, height
    gain: tuple[float, float, float]  # exposure times white balance
    saturation: float
    contrast: float
    falloff: float  # light lost at one short side from the middle
    tilt: tuple[float, float]  # light gained along x and y
    vignette: float | None  # radius of the round window in half diagonals
    blur: float  # in thousandths of the short side
    grain: float


def draw_camera(rng: np.random.Generator, sizes: tuple[tuple[int, int], ...]) -> Camera:
    exposure = np.exp(rng.normal(0.04, 0.06))
    warm, pink = rng.normal(0, 0.05), abs(rng.normal(0, 0.05))
    cast = np.exp([warm, 0.3 * warm - pink, -1.3 * warm])  # lamps err to pink, never to green
    return Camera(
        size_px=sizes[rng.integers(len(sizes))],
        gain=tuple((exposure * cast).tolist()),
        saturation=float(rng.uniform(0.7, 1.2)),
        contrast=float(rng.uniform(0.9, 1.25)),
        falloff=float(rng.uniform(0.05, 0.45)),
        tilt=tuple(rng.normal(0, 0.06, 2).tolist()),
        vignette=float(rng.uniform(0.72, 0.98)) if rng.random() < 0.22 else None,
        blur=float(rng.uniform(0.8, 2.2)),
        grain=float(rng.uniform(0.004, 0.012)),
    )


def expose(rng: np.random.Generator, camera: Camera, picture: Picture) -> NDArray[np.uint8]:
    """Uint8 [height, width, 3] of `camera.size_px`, from the lit skin as float32 [H, W, 3]."""
    height, width = shape = picture.shape[:2]
    x = (np.arange(width, dtype=np.float32) - width / 2) / min(shape)
    y = ((np.arange(height, dtype=np.float32) - height / 2) / min(shape))[:, None]
    away2 = x * x + y * y
    light = 1 - camera.falloff * away2 + (camera.tilt[0] * x + camera.tilt[1] * y)
    if camera.vignette is not None:
        radius = camera.vignette * math.hypot(height, width) / (2 * min(shape))
        light *= smooth_step((radius - np.sqrt(away2)) / 0.03 + 0.5)
    lit = cv2.transform(cv2.multiply(picture, triple(light)), colour_matrix(camera))
    # From here on in bytes, which saturate: several times as fast, and the grain hides their steps.
    taken = cv2.LUT(cv2.multiply(lit, (255 / HEADROOM,) * 4, dtype=cv2.CV_8U), tone_curve())
    taken = cv2.GaussianBlur(taken, (0, 0), camera.blur / 1000 * min(shape))
    grain = (255 * camera.grain * rng.standard_normal(shape, dtype=np.float32)).astype(np.int16)
    taken = cv2.add(taken, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    return np.asarray(cv2.resize(taken, camera.size_px, interpolation=cv2.INTER_CUBIC))


def tone_curve() -> NDArray[np.uint8]:
    """Uint8 [256] of light from 0 to `HEADROOM`: bright tones bend instead of clipping."""
    light = np.linspace(0, HEADROOM, 256)
    over = np.maximum(light - SHOULDER, 0)
    bent = np.clip(light, 0.015, SHOULDER) + over * (1 - SHOULDER) / (over + (1 - SHOULDER))
    return np.rint(255 * bent).astype(np.uint8)


def colour_matrix(camera: Camera) -> NDArray[np.float32]:
    """Float32 [3, 4]: white balance, then saturation about grey, then contrast about mid-tone."""
    saturate = camera.saturation * np.eye(3) + (1 - camera.saturation) * GREY
    matrix = camera.contrast * saturate @ np.diag(camera.gain)
    offset = np.full((3, 1), MID_TONE * (1 - camera.contrast))
    return np.hstack([matrix, offset]).astype(np.float32)
