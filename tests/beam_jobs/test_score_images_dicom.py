"""`score_images` on a folder with DICOM in it: scored like the pixels that a viewer shows."""

import csv

import cv2
import numpy as np
import pytest
from PIL import Image

from beam_jobs.score_images import main
from dicom_factory import SECRET, dicom
from pipeline.predictions import read_predictions

BLOCKS = np.random.default_rng(0).integers(60, 200, (6, 8, 3), np.uint8)
COLORS = cv2.resize(BLOCKS, (128, 96))
GRAYS = COLORS[..., 1].copy()
# Hounsfield units behind a scanner's slope; its window shows 0 to 255 of them.
CT = {"RescaleSlope": 0.5, "RescaleIntercept": -1000, "VOILUTFunction": "LINEAR_EXACT"}
CT |= {"WindowCenter": 127.5, "WindowWidth": 255, "BitsStored": 12}
STORED = 2 * (GRAYS.astype(np.uint16) + 1000)
FILES = {
    "color.dcm": lambda: dicom(COLORS),
    "gray.dcm": lambda: dicom(GRAYS),
    "gray-ct.dcm": lambda: dicom(STORED, **CT),
    "gray-inverted.dcm": lambda: dicom(255 - GRAYS, PhotometricInterpretation="MONOCHROME1"),
}
BAD = {
    "cut.dcm": (lambda: dicom(COLORS)[:-1000], "truncated"),
    "frames.dcm": (lambda: dicom(GRAYS, Rows=48, NumberOfFrames=2), "unsupported"),
    "page.dcm": (lambda: b"<html>not found</html>", "not_an_image"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder of three bad DICOM files, four good ones, and their pixels as PNG."""
    folder = tmp_path_factory.mktemp("study")
    for name, make in [*FILES.items(), *((name, make) for name, (make, _) in BAD.items())]:
        (folder / name).write_bytes(make())
    Image.fromarray(COLORS).save(folder / "color-png.png")
    Image.fromarray(GRAYS).save(folder / "gray-png.png")
    return folder


def test_dicom_gets_the_score_of_its_pixels_and_what_is_bad_goes_to_the_failed_file(
    exported_run, study, tmp_path, capsys
):
    flags = ["--models", f"{exported_run}/run", "--images", str(study), "--max_failures", "0.5"]
    assert main([*flags, "--output", f"{tmp_path}/s.parquet"]) == 0
    logits = read_predictions(f"{tmp_path}/s.parquet").frame.set_index("id")["logit_1"]
    assert sorted(logits.index) == [
        "color", "color-png", "gray", "gray-ct", "gray-inverted", "gray-png"
    ]  # fmt: skip
    assert abs(logits["color"] - logits["gray"]) > 1e-3  # else anything would do
    for name in FILES:
        like = name.partition(".")[0].partition("-")[0]
        assert logits[name.removesuffix(".dcm")] == logits[f"{like}-png"], name
    with (tmp_path / "s.failed.csv").open() as file:
        failed = {line["path"]: line["reason"] for line in csv.DictReader(file)}
    assert failed == {name: reason for name, (_, reason) in BAD.items()}
    told = capsys.readouterr()
    assert "3 rows failed (1 not_an_image, 1 truncated, 1 unsupported)" in told.out
    assert SECRET not in told.out + told.err + (tmp_path / "s.failed.csv").read_text()
