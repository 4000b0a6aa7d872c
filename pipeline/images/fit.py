"""How a source of any shape becomes an image of one size: pure arithmetic, no pixels.

The same `Fitted` drives the resampling of the image (`render`) and of its boxes (`map_boxes`), so
that the two cannot drift apart. Coordinates are continuous: pixel i covers [i, i + 1).
"""

import dataclasses

import numpy as np
import numpy.typing as npt

FITS = ("crop", "pad", "stretch")

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


def fit_box(width: int, height: int, size: int, fit: str) -> Fitted:
    """Source width and height and output size in pixels → where what goes.

    `crop` takes the centred square of side min(width, height): to half a pixel where the remainder
    is odd, but on whole pixels where that keeps them as they are (side = size). `pad` puts the
    whole image in the middle with its aspect kept to a pixel, `stretch` onto the whole square.
    """
    if min(width, height, size) < 1:
        raise ValueError(f"fit_box: sides must be at least 1 px, got {width}×{height} to {size}")
    left, top = 0.0, 0.0
    target_width = target_height = size
    crop_width, crop_height = width, height
    match fit:
        case "crop":
            crop_width = crop_height = min(width, height)
            left, top = (width - crop_width) / 2, (height - crop_height) / 2
            if crop_width == size:
                left, top = left // 1, top // 1
        case "pad":
            long = max(width, height)
            target_width = max(1, round(width * size / long))
            target_height = max(1, round(height * size / long))
        case "stretch":
            pass
        case _:
            raise ValueError(f"fit_box: fit must be one of {', '.join(FITS)}, got {fit!r}")
    x, y = (size - target_width) // 2, (size - target_height) // 2
    return Fitted(
        crop=(left, top, left + crop_width, top + crop_height),
        target=(x, y, x + target_width, y + target_height),
        width_px=size,
        height_px=size,
    )


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
