"""Finds what a dermatoscope shows inside its black frame or round window. Called by `render`.

Looks at a small copy of the decoded image. A frame is taken for one only where everything fits: a
bar must be black and end in a straight edge, a window must be an ellipse (a circle, or one that was
stretched) with black outside and none along the border inside. What does not fit is left alone: a
frame that stays costs less than a lesion that is cut.
"""

import dataclasses
import functools

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.images.fit import Box

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

LOOK_PX = 128  # the longer side of the copy; hairs are gone from it, edges are not
LINE_PX = 2  # of the copy: some frames have a bright line around them
DARK_SHARE = 0.38  # what is darker than this part of the image's bright quarter lies outside,
DARKEST = 90  # unless it is brighter than this;
BLACK_SHARE = 0.6  # a bar has to be darker by this factor, and half of what lies outside a window
OUTSIDE_SHARE = 0.75  # by this one
LONGEST_BAR = 0.4  # of a side
RAYS = 240
MARGIN = 0.02  # of a window's radius: its edge is soft


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """The ellipse (X − x)² + squash · (Y − y)² = radius²; a circle where `squash` is 1."""

    x: float
    y: float
    radius: float
    squash: float

    def reach(self, along_x: Floats, along_y: Floats) -> Floats:
        """How far it is from (0, 0), which must be inside, to the edge in each direction."""
        a = along_x**2 + self.squash * along_y**2
        half_b = along_x * self.x + self.squash * along_y * self.y
        c = self.x**2 + self.squash * self.y**2 - self.radius**2
        reach: Floats = (half_b + np.sqrt(np.maximum(half_b**2 - a * c, 0))) / a
        return reach

    def moved(self, x: float, y: float) -> "Window":
        return dataclasses.replace(self, x=self.x + x, y=self.y + y)


def find_inside(pixels: Bytes, *, square: bool) -> Box | None:
    """uint8 [h, w, 3] or [h, w] → box in its pixels of the largest part inside its frame.

    `square` asks for a square, otherwise any axis-parallel rectangle will do. None where there is
    no frame, and for an image of fewer pixels than are needed to tell.
    """
    height, width = pixels.shape[:2]
    shrink = LOOK_PX / max(height, width)
    small_width, small_height = round(width * shrink), round(height * shrink)
    if shrink > 1 or min(small_width, small_height) < LOOK_PX // 4:
        return None
    small = cv2.resize(pixels, (small_width, small_height), interpolation=cv2.INTER_AREA)
    light = small if small.ndim == 2 else functools.reduce(cv2.max, cv2.split(small))
    dark = min(DARKEST, DARK_SHARE * float(np.percentile(light, 75)))
    frame = _inside_bars(light > BLACK_SHARE * dark)
    window = _find_window(light, dark, frame)
    if window is None and frame == (0, 0, small_width, small_height):
        return None
    x0, y0, x1, y1 = frame if window is None else _largest_inside(window, frame, square)
    by_x, by_y = width / small_width, height / small_height
    return x0 * by_x, y0 * by_y, x1 * by_x, y1 * by_y


def _inside_bars(is_lit: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """bool [h, w] → the box (x0, y0, x1, y1) that bars along its sides leave."""
    height, width = is_lit.shape
    x0, y0, x1, y1 = 0, 0, width, height
    for _ in range(2):  # a bar's edge is straight only between the bars across it
        rows = is_lit[:, max(x0, LINE_PX) : min(x1, width - LINE_PX)].mean(axis=1)
        y0, y1 = _bar(rows), height - _bar(rows[::-1])
        columns = is_lit[max(y0, LINE_PX) : min(y1, height - LINE_PX)].mean(axis=0)
        x0, x1 = _bar(columns), width - _bar(columns[::-1])
    return x0, y0, x1, y1


def _bar(lit_share: Floats) -> int:
    """Share of lit pixels of each line, from the side inwards → lines of the bar, 0 for none."""
    inner = lit_share[LINE_PX:]
    black = int(np.argmax(inner > 0.02))
    if not 0 < black <= LONGEST_BAR * len(inner):
        return 0
    bright = np.flatnonzero(inner[black : black + 3] > 0.85)  # the edge blurs over some lines
    return LINE_PX + black + int(bright[0]) + 1 if len(bright) else 0


def _find_window(light: Bytes, dark: float, frame: tuple[int, int, int, int]) -> Window | None:
    """Follows rays from the middle of the frame to where the light ends, and fits an ellipse."""
    height, width = light.shape
    x0, y0 = max(frame[0], LINE_PX), max(frame[1], LINE_PX)
    x1, y1 = min(frame[2], width - LINE_PX), min(frame[3], height - LINE_PX)
    if (light[[y0, y0, y1 - 1, y1 - 1], [x0, x1 - 1, x0, x1 - 1]] <= dark).sum() < 2:
        return None  # of most images no more than their corners need be seen
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    angles = (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS
    along_x, along_y = np.cos(angles), np.sin(angles)
    border = np.minimum((x1 - x) / np.abs(along_x), (y1 - y) / np.abs(along_y))
    ends = _light_ends(light, dark, (x, y), along_x, along_y, border)
    is_cut = ends < border - 1.5
    if is_cut.mean() < 0.03:
        return None
    radius = min(x1 - x0, y1 - y0) / 2
    for is_ellipse in (False, True):
        window, is_met = _fit_window(ends, is_cut, along_x, along_y, 0.05 * radius, is_ellipse)
        if window is None:
            continue
        misses = np.abs(np.minimum(window.reach(along_x, along_y), border) - ends)
        fitting = (misses <= max(1.5, 0.04 * radius)).mean()
        explained = is_met.sum() / is_cut.sum()
        corners = (is_met.reshape(4, -1).sum(axis=1) >= 2).sum()
        # Two corners leave an ellipse undecided, and a circle only where nothing contradicts it.
        is_perfect = not is_ellipse and min(fitting, explained) > 0.97
        enough = corners >= 3 or (corners == 2 and is_perfect)
        plausible = (
            0.45 < window.squash < 2.2
            and abs(window.x) < 0.3 * (x1 - x0)
            and abs(window.y) < 0.3 * (y1 - y0)
            and window.radius > 0.5 * radius
        )
        if enough and plausible and fitting >= 0.85 and explained >= 0.75:
            window = window.moved(x, y)
            return window if _is_black_outside(light, dark, window, (x0, y0, x1, y1)) else None
    return None


def _light_ends(
    light: Bytes,
    dark: float,
    middle: tuple[float, float],
    along_x: Floats,
    along_y: Floats,
    border: Floats,
) -> Floats:
    """The distance on each ray, up to `border`, of the last light: three half pixels in a row."""
    distances = np.arange(int(2 * border.max()) + 1) / 2
    # Pixel i has its centre at i + 0.5.
    x = middle[0] - 0.5 + distances * along_x[:, None]
    y = middle[1] - 0.5 + distances * along_y[:, None]
    values = cv2.remap(light, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    is_lit = (values > dark) & (distances <= border[:, None] - 0.5)
    is_lit[:, 2:] &= is_lit[:, 1:-1] & is_lit[:, :-2]
    last = len(distances) - 1 - np.argmax(is_lit[:, ::-1], axis=1)
    ends: Floats = np.where(is_lit.any(axis=1), distances[last], 0.0)
    return ends


def _fit_window(
    ends: Floats,
    is_cut: npt.NDArray[np.bool_],
    along_x: Floats,
    along_y: Floats,
    tolerance: float,
    is_ellipse: bool,
) -> tuple[Window | None, npt.NDArray[np.bool_]]:
    """Least squares through the ends of the rays that are cut short, and which of them it meets.

    X² + squash · Y² − 2xX − 2·squash·yY + … = 0 is linear in its coefficients (I. Kåsa, IEEE Trans.
    Instrumentation and Measurement 25, 1976). Ends that it misses, such as hairs, are left out of
    the next of four turns.
    """
    x, y, is_met = ends * along_x, ends * along_y, is_cut
    window = None
    for _ in range(4):
        if is_met.sum() < 7:
            return None, is_met
        near_x, near_y = x[is_met], y[is_met]
        terms = [near_x, near_y, np.ones_like(near_x), near_y**2]
        known = near_x**2 if is_ellipse else near_x**2 + near_y**2
        matrix = np.stack(terms if is_ellipse else terms[:3], axis=1)
        solved = np.linalg.lstsq(matrix, -known, rcond=None)[0]
        squash = float(solved[3]) if is_ellipse else 1.0
        if squash < 0.2:
            return None, is_met
        middle_x, middle_y = -solved[0] / 2, -solved[1] / (2 * squash)
        radius2 = middle_x**2 + squash * middle_y**2 - solved[2]
        if radius2 <= 0:
            return None, is_met
        window = Window(
            x=float(middle_x), y=float(middle_y), radius=float(np.sqrt(radius2)), squash=squash
        )
        misses = np.abs(window.reach(along_x, along_y) - ends)
        is_met = is_cut & (misses < max(1.5, tolerance))
    return window, is_met


def _is_black_outside(light: Bytes, dark: float, window: Window, frame: Box) -> bool:
    x0, y0, x1, y1 = map(int, frame)
    y, x = np.mgrid[y0:y1, x0:x1] + 0.5
    away2 = (x - window.x) ** 2 + window.squash * (y - window.y) ** 2
    outside = light[y0:y1, x0:x1][away2 > (1.03 * window.radius) ** 2]
    return len(outside) > 3 and bool(np.median(outside) <= OUTSIDE_SHARE * dark)


def _largest_inside(window: Window, frame: Box, square: bool) -> Box:
    """The largest rectangle, or square, whose corners lie in the window and in the frame.

    A rectangle's corners are in the ellipse while a² + squash · b² ≤ radius² for its largest
    distances a and b from the middle along x and y: one angle says which.
    """
    x0, y0, x1, y1 = frame
    angles = np.linspace(0, np.pi / 2, 512)
    radius = (1 - MARGIN) * window.radius
    a, b = radius * np.cos(angles), radius * np.sin(angles) / np.sqrt(window.squash)
    left, right = np.maximum(x0, window.x - a), np.minimum(x1, window.x + a)
    top, bottom = np.maximum(y0, window.y - b), np.minimum(y1, window.y + b)
    width, height = right - left, bottom - top
    best = int(np.argmax(np.minimum(width, height) if square else width * height))
    if not square:
        return float(left[best]), float(top[best]), float(right[best]), float(bottom[best])
    side = float(min(width[best], height[best]))
    # As near to the middle of the image as it may be.
    x = float(np.clip((x0 + x1 - side) / 2, left[best], right[best] - side))
    y = float(np.clip((y0 + y1 - side) / 2, top[best], bottom[best] - side))
    return x, y, x + side, y + side
