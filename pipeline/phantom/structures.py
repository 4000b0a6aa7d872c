"""Pigment network and globules, the fine structures that dermoscopy shows; called by `lesion`."""

import math

import cv2
import numpy as np

from pipeline.phantom.fields import Field, Shape, smooth_noise, smooth_step

ROW_PITCH = math.sqrt(3) / 2  # of a honeycomb, in meshes


def draw_network(rng: np.random.Generator, shape: Shape, side_px: int, disorder: float) -> Field:
    """Float32 [h, w] around 0: lines about pale holes, a honeycomb that `disorder` disturbs."""
    mesh_px = side_px * rng.uniform(0.018, 0.026)
    rows, columns = int(shape[0] / mesh_px / ROW_PITCH) + 2, int(shape[1] / mesh_px) + 2
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    jitter = 0.16 + 0.22 * disorder
    x = (x + 0.5 * (y % 2) + rng.normal(0, jitter, x.shape)) * mesh_px
    y = (ROW_PITCH * y + rng.normal(0, jitter, y.shape)) * mesh_px
    kept = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    holes = np.ones(shape, np.uint8)
    holes[y[kept].astype(int), x[kept].astype(int)] = 0
    away = cv2.distanceTransform(holes, cv2.DIST_L2, 5) / np.float32(mesh_px)
    lines = cv2.GaussianBlur(smooth_step((away - 0.2) / 0.4) - 0.5, (0, 0), 0.06 * mesh_px + 0.4)
    fade = 0.5 + (0.3 + 0.5 * disorder) * smooth_noise(rng, shape, 7 * mesh_px)
    return np.asarray(lines * np.clip(fade, 0, 1.5))


def draw_globules(
    rng: np.random.Generator, share: float, disorder: float, u: Field, v: Field, side_px: int
) -> Field:
    """Float32 [h, w] from 0: dark spots, alike and all over, or of many sizes and on one side.

    `u` and `v` are places in the lesion's own frame, in radii: spots lie where their noise peaks.
    """
    scale_px = side_px * rng.uniform(0.010, 0.016) * (1 + 0.3 * disorder)
    peaks = smooth_noise(rng, u.shape, scale_px)
    peaks += disorder * smooth_noise(rng, u.shape, 3 * scale_px)
    lean = rng.uniform(0, 2 * math.pi)
    peaks += disorder * (u * math.cos(lean) + v * math.sin(lean))
    peaks += 0.6 * share - 1.3
    peaks /= 2
    return rng.uniform(0.5, 0.9) * smooth_step(peaks)
