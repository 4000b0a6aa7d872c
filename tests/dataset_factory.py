"""Small folders of real JPEGs and a CSV, for tests of whole jobs. TensorFlow-free."""

from pathlib import Path

import numpy as np
import simplejpeg


def write_dataset(
    folder: Path, rows: int = 24, patients: int = 8, seed: int = 1, times: int = 1
) -> Path:
    """`folder/jpeg/*.jpg` of mixed sizes and `folder/train.csv`; the CSV's path.

    Sides are 70 to 160 px, or `times` as much, for a job that lasts.
    """
    rng = np.random.default_rng(seed)
    (folder / "jpeg").mkdir(parents=True)
    lines = ["image_name,patient_id,sex,age_approx,site,note,target"]
    for row in range(rows):
        name = f"IMG_{rng.integers(10**6):06d}_{row}"
        height, width = times * rng.integers(70, 160, 2)
        blocks = rng.integers(90, 150, (8, 8, 3), np.uint8)
        pixels = blocks.repeat(20 * times, 0).repeat(20 * times, 1)[:height, :width]
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90)
        (folder / "jpeg" / f"{name}.jpg").write_bytes(data)
        age = "" if row % 7 == 3 else f"{row % 9 * 5}.0"
        site = ("torso", "", "head/neck")[row % 3]
        sex = ("male", "female")[row % 2]
        lines.append(f"{name},P{row % patients},{sex},{age},{site},n{row},{row % 4 // 3}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder / "train.csv"


def record_flags(folder: Path, output: Path, **over: str) -> list[str]:
    """The command line of `make_records` for `write_dataset`'s folder."""
    flags = {
        "csv": f"{folder}/train.csv", "images": f"{folder}/jpeg", "output": str(output),
        "image_path": "{image_name}.jpg", "id": "image_name", "label": "target",
        "group": "patient_id", "categorical": "sex,site", "numeric": "age_approx",
        "keep": "all", "folds": "4", "sizes": "64", "rows_per_shard": "4", **over,
    }  # fmt: skip
    return [word for name, value in flags.items() for word in (f"--{name}", value)]
