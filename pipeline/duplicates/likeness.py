"""Are two thumbnails one picture? What banding finds is looked at here, pixel by pixel.

The turned first image is explained by the second: brightness and contrast are free, and an affine
movement is fitted by Gauss-Newton steps (Lucas & Kanade, "An Iterative Image Registration Technique
with an Application to Stereo Vision", 1981), for the view in which the hashes agreed is off by up
to 4 %. Then the slowest waves are taken out of both. What two pictures of one kind share is in
these: the shade of a chest, the dark middle of a lesion. Their detail never fits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.duplicates.hashing import TURNS, VIEWS, turn
from pipeline.duplicates.thumbnail import THUMBNAIL_PX, Thumbnails

# All measured by benchmarks/duplicates.py. Fits are shares of variance that the other explains.
LEAST_FIT = 0.97  # of the detail: 99 of 100 copies reach 0.98, other pictures hardly ever 0.96
_LEAST_FIRST_FIT = 0.88  # before any step, on the coarse grid: spares the rest of the work
_STEPS = 3
_COARSE, _FINE = 12, 40  # points a side that are compared
_BLUR_PX = 0.8  # standard deviation: hides noise, and lets a step see a movement of a pixel
_WAVES_OUT = 4  # 0 to 3 half waves a side
_BLANK = 0.5  # gray levels; a standard deviation below is noise of the encoder
_RIDGE = 1e-3  # of a point's weight: a direction without any structure does not move

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def fit_detail(
    firsts: Thumbnails,
    seconds: Thumbnails,
    turns: npt.NDArray[np.int64],
    views: npt.NDArray[np.int64],
) -> Floats:
    """uint8 [N, 48, 48] twice, places in `TURNS` and `VIEWS` int64 [N] → float32 [N] in [0, 1].

    The share of each first image's detail, in its turn, that the second explains around its view;
    0 where that is far from a copy, or either is blank. `LEAST_FIT` and more is one picture.
    """
    maps, fits = _VIEW_MAPS[views], np.zeros(len(firsts), np.float32)
    still = _sample(_halved(_turned(firsts, turns)), _whole(maps), _COARSE)
    near = np.flatnonzero(_step(still, _halved(seconds), maps)[1] >= _LEAST_FIRST_FIT)
    if near.size:
        one, other = _blurred(_turned(firsts[near], turns[near])), _blurred(seconds[near])
        fits[near] = _fit_moved(one, other, maps[near])
    return fits


def _fit_moved(one: Floats, other: Floats, maps: Doubles) -> Doubles:
    """The fit [N] of the detail after the views [N, 2, 3] were moved to where it is best."""
    still = _sample(one, _whole(maps), _FINE)
    for _ in range(_STEPS):
        movement, _ = _step(still, other, maps)
        maps = maps + movement
    return _explain(_detail(still), _detail(_sample(other, maps, _FINE)))[1]


def _step(still: Floats, other: Floats, maps: Doubles) -> tuple[Doubles, Doubles]:
    """How to move `maps`, [N, 2, 3], for `other` to look more like `still`; and the fit now, [N].

    `still` is [N, P, P], sampled already: that many points a side are compared.
    """
    return _explain(still, _sample(other, maps, still.shape[1]))


def _explain(wanted: Floats, known: Floats) -> tuple[Doubles, Doubles]:
    """[N, P, P] twice → movement of `known` [N, 2, 3] in sides of the image, and fit [N]."""
    count, points = len(wanted), wanted.shape[1]
    wanted, known = _standardized(wanted), _standardized(known)
    # The mean of both slopes makes the linear step exact to second order.
    down, across = np.gradient((wanted + known) / 2, 1 / points, axis=(1, 2))
    moved = [slope * term for slope in (across, down) for term in _terms(points)]
    terms = np.stack([known, *moved], axis=1).reshape(count, 7, -1)
    normal = (terms @ terms.swapaxes(1, 2)).astype(np.float64)
    normal += _RIDGE * points**2 * np.eye(7)
    projected = (terms @ wanted.reshape(count, -1, 1)).astype(np.float64)
    weights = np.linalg.solve(normal, projected)
    fit = (projected * weights).sum(axis=(1, 2)) / points**2
    contrast = np.maximum(weights[:, :1], 0.5)  # a worse match gives no larger a movement
    return (weights[:, 1:] / contrast).reshape(count, 2, 3), fit


def _terms(points: int) -> Floats:
    """float32 [3, P, P]: 1, x and y from -1 to 1 at the centres of a grid's cells."""
    places = ((np.arange(points) + 0.5) / points * 2 - 1).astype(np.float32)
    across, down = np.meshgrid(places, places)
    return np.stack([np.ones_like(across), across, down])


def _sample(images: Floats, maps: Doubles, points: int) -> Floats:
    """[N, H, H] and affine maps [N, 2, 3] of `_terms` to x and y → float32 [N, P, P].

    Linear between pixels; what lies outside is as the edge.
    """
    side = images.shape[1]
    places = maps.astype(np.float32) @ _terms(points).reshape(3, -1) * side - 0.5
    places = np.clip(places, 0, side - 1.001)
    corner = places.astype(np.intp)
    (x, y), (left, top) = (places - corner).swapaxes(0, 1), corner.swapaxes(0, 1)
    pixels = images.ravel()
    place = np.arange(len(images))[:, np.newaxis] * side**2 + top * side + left

    def row(start: int) -> Floats:
        first, second = pixels.take(place + start), pixels.take(place + start + 1)
        between: Floats = first + x * (second - first)
        return between

    upper = row(0)
    sampled: Floats = upper + y * (row(side) - upper)
    return sampled.reshape(-1, points, points)


def _whole(maps: Doubles) -> Doubles:
    return np.broadcast_to(_VIEW_MAPS[0], maps.shape)


def _turned(images: Thumbnails, turns: npt.NDArray[np.int64]) -> Thumbnails:
    turned = np.empty_like(images)
    for number in range(len(TURNS)):
        chosen = turns == number
        turned[chosen] = turn(images[chosen], number)
    return turned


def _halved(images: Thumbnails) -> Floats:
    """[N, 48, 48] → four times the means of 2×2 pixels, float32 [N, 24, 24]."""
    rows = images[:, ::2].astype(np.float32) + images[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]


def _blurred(images: Thumbnails) -> Floats:
    blurred: Floats = _BLUR @ images.astype(np.float32) @ _BLUR.T
    return blurred


def _detail(images: Floats) -> Floats:
    return images - np.asarray(_SLOW @ images @ _SLOW, np.float32)


def _standardized(images: Floats) -> Floats:
    """Mean 0 and standard deviation 1 in each image; all 0 where it is blank."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    deviation = centred.std(axis=(1, 2), keepdims=True)
    deviation[deviation <= _BLANK] = np.inf
    standardized: Floats = centred / deviation
    return standardized


def _view_maps() -> Doubles:
    """float64 [views, 2, 3]: x and y of a view's points, in sides, as an affine map of `_terms`."""
    return np.array(
        [
            [[(x0 + x1) / 2, (x1 - x0) / 2, 0], [(y0 + y1) / 2, 0, (y1 - y0) / 2]]
            for x0, y0, x1, y1 in VIEWS
        ]
    )


def _gaussian() -> Floats:
    """float32 [48, 48]: what a column of pixels is multiplied by to be blurred."""
    places = np.arange(THUMBNAIL_PX)
    weights = np.exp(-((places[:, None] - places) ** 2) / (2 * _BLUR_PX**2))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights, np.float32)


def _slow_waves() -> Floats:
    """float32 [40, 40]: the projection onto the cosines of fewer than `_WAVES_OUT` half waves."""
    waves: Doubles = np.cos(
        np.pi * np.arange(_WAVES_OUT)[:, None] * (np.arange(_FINE) + 0.5) / _FINE
    )
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    projection: Floats = (waves.T @ waves).astype(np.float32)
    return projection


_VIEW_MAPS = _view_maps()
_BLUR = _gaussian()
_SLOW = _slow_waves()
