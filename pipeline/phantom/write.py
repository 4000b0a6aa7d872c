"""Writes a phantom: `OUT/jpeg/ISIC_xxxxxxx.jpg` and, last of all, `OUT/train.csv`.

Promises the same bytes for the same `PhantomSpec`, whatever the number of threads: each picture is
drawn from its own seed. Called by `python -m pipeline.phantom`, and by tests that need images.
"""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import simplejpeg

from pipeline.errors import SettingsError
from pipeline.phantom.picture import draw_picture
from pipeline.phantom.table import Row, make_rows, write_csv

JPEG_QUALITY = 90
# Width, height in pixels: dermatoscopes of several makes, one of them held upright.
SIZES = ((640, 480), (768, 768), (900, 600), (600, 800), (1022, 767), (1504, 1129))
MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """All that a phantom depends on."""

    patients: int = 120
    seed: int = 7
    positive_share: float = 0.2  # of the images
    images_per_patient: float = 8.0  # the mean; the median is about 0.7 of it
    sizes: tuple[tuple[int, int], ...] = SIZES  # each as likely as the next

    def __post_init__(self) -> None:
        if not 1 <= self.patients <= 1_000_000:
            raise SettingsError(f"phantom: patients must be 1 to 1000000, got {self.patients}")
        if self.seed < 0:
            raise SettingsError(f"phantom: seed must be 0 or more, got {self.seed}")
        if not 0 <= self.positive_share <= 1:
            raise SettingsError(
                f"phantom: positive_share must be 0 to 1, got {self.positive_share}"
            )
        if not 1 <= self.images_per_patient <= 100:
            got = self.images_per_patient
            raise SettingsError(f"phantom: images_per_patient must be 1 to 100, got {got}")
        for width, height in self.sizes:
            if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in (width, height)):
                rule = f"{MIN_SIDE_PX} to {MAX_SIDE_PX} pixels a side"
                raise SettingsError(f"phantom: sizes must be {rule}, got {width}x{height}")


def write_phantom(spec: PhantomSpec, output: Path) -> list[Row]:
    """The rows written, in order of `image_name`.

    Every file appears whole or not at all; where there is a `train.csv`, all its images are.
    """
    rows = make_rows(
        patients=spec.patients,
        seed=spec.seed,
        positive_share=spec.positive_share,
        images_per_patient=spec.images_per_patient,
    )
    folder = output / "jpeg"
    folder.mkdir(parents=True, exist_ok=True)
    table = output / "train.csv"
    table.unlink(missing_ok=True)  # an older one would name images of another phantom
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda row: write_picture(spec, row, folder), rows):
            pass
    write_csv(table, rows)
    return rows


def write_picture(spec: PhantomSpec, row: Row, folder: Path) -> None:
    picture = draw_picture(
        seed=spec.seed,
        number=row.number,
        patient=row.patient,
        malignant=row.malignant,
        sizes=spec.sizes,
    )
    partial = folder / f"{row.image_name}.partial"
    partial.write_bytes(simplejpeg.encode_jpeg(picture, JPEG_QUALITY, colorsubsampling="420"))
    partial.replace(partial.with_suffix(".jpg"))
