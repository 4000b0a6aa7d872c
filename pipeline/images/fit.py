"""How a source of any shape becomes an image of one size: pure arithmetic, no pixels.

The same `Fitted` drives the resampling of the image (`render`) and of its boxes (`map_boxes`), so
that the two cannot drift apart. Coordinates are continuous: pixel i covers [i, i + 1).
"""

import dataclasses

import numpy as np
import numpy.typing as npt

SQUARE_FITS = ("crop", "pad", "stretch")
FITS = (*SQUARE_FITS, "short", "long")

Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """The box `crop` of the source, in source pixels, fills the box `target` of the output."""

    crop: Box
    target: tuple[int, int, int, int]
    width_px: int  # of the output
    height_px: int

    @property
    def target_width_px(self) -> int:
        return self.target[2] - self.target[0]

    @property
    def target_height_px(self) -> int:
        return self.target[3] - self.target[1]

    @property
    def enlarges(self) -> bool:
        """Whether an output pixel is smaller than a source pixel, in either direction."""
        x0, y0, x1, y1 = self.crop
        return self.target_width_px > x1 - x0 or self.target_height_px > y1 - y0


def fit_box(width: int, height: int, size: int, fit: str, part: Box | None = None) -> Fitted:
    """Source width and height and output size in pixels → where what goes.

    `crop` takes the centred square of side min(width, height): to half a pixel where the remainder
    is odd, but on whole pixels where that keeps them as they are (side = size). `pad` puts the
    whole image in the middle with its aspect kept to a pixel, `stretch` onto the whole square.
    `short` and `long` keep the aspect and add nothing: that side of the output is `size`.

    `part` is a box of the source that is taken for all of it, as `find_inside` gives it.
    """
    left, top, right, bottom = part or (0.0, 0.0, width, height)
    crop_width, crop_height = right - left, bottom - top
    if min(crop_width, crop_height, size) < 1:
        raise ValueError(
            f"fit_box: sides must be at least 1 px, got {crop_width:g}×{crop_height:g} to {size}"
        )
    shorter, longer = sorted((crop_width, crop_height))
    target_width = target_height = size
    match fit:
        case "crop":
            left, top = left + (crop_width - shorter) / 2, top + (crop_height - shorter) / 2
            crop_width = crop_height = shorter
            if shorter == size:
                left, top = left // 1, top // 1
        case "pad" | "short" | "long":
            kept = shorter if fit == "short" else longer
            target_width = max(1, round(crop_width * size / kept))
            target_height = max(1, round(crop_height * size / kept))
        case "stretch":
            pass
        case _:
            raise ValueError(f"fit_box: fit must be one of {', '.join(FITS)}, got {fit!r}")
    is_square = fit in SQUARE_FITS
    width_px, height_px = (size, size) if is_square else (target_width, target_height)
    x, y = (width_px - target_width) // 2, (height_px - target_height) // 2
    return Fitted(
        crop=(left, top, left + crop_width, top + crop_height),
        target=(x, y, x + target_width, y + target_height),
        width_px=width_px,
        height_px=height_px,
    )


def is_fitted(width_px: int, height_px: int, size: int, fit: str) -> bool:
    """Whether an output of these sides can come of `fit` at `size`, whatever the source was."""
    match fit:
        case "short":
            return min(width_px, height_px) == size
        case "long":
            return max(width_px, height_px) == size
        case _:
            return width_px == height_px == size


def map_boxes(boxes: npt.NDArray[np.float32], fitted: Fitted) -> npt.NDArray[np.float32]:
    """float32 [N, 4] (xmin, ymin, xmax, ymax) in source pixels → the same in output pixels.

    Clipped to the part of the output that shows the source, so a box that was cropped away has no
    area; the caller decides what becomes of it. N may be 0.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"map_boxes: boxes must be float32 [N, 4], got shape {boxes.shape}")
    crop, target = np.array(fitted.crop), np.array(fitted.target)
    scale = (target[2:] - target[:2]) / (crop[2:] - crop[:2])
    corners = (boxes.reshape(-1, 2, 2) - crop[:2]) * scale + target[:2]
    mapped: npt.NDArray[np.float32] = np.clip(corners, target[:2], target[2:]).astype(np.float32)
    return mapped.reshape(-1, 4)
