"""Hostile files and tables, and what a user sees of each: `docs/bad_input.md`, kept true here.

A table that can't be used is one line on stderr before any image is read. An image that can't be
used is one line in `failed.csv`, and the job goes on.
"""

import csv
import dataclasses
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.make_records import main
from dataset_factory import record_flags, write_dataset

DOC = Path(__file__).resolve().parents[2] / "docs" / "bad_input.md"


@dataclasses.dataclass(frozen=True)
class BadImage:
    """A row whose image is at fault; `spoil` is given the image's path."""

    what: str
    spoil: Callable[[Path], object]
    reason: str


@dataclasses.dataclass(frozen=True)
class BadTable:
    """A table or command line at fault; `spoil` turns the CSV's text into another."""

    what: str
    spoil: Callable[[str], str]
    flags: dict[str, str]
    code: int
    shows: str  # a part of the one line


def first_id(text: str) -> str:
    return text.splitlines()[1].split(",")[0]


def replace_first_id(new: str) -> Callable[[str], str]:
    return lambda text: text.replace(first_id(text), new, 1)


def add_parts(text: str) -> str:
    """A column that puts every other row, and so every patient, into another part."""
    head, *lines = text.splitlines()
    parts = [f"{line},{('train', 'val')[n // 8 % 2]}" for n, line in enumerate(lines)]
    return "\n".join([f"{head},part", *parts]) + "\n"


def huge_jpeg(path: Path) -> None:
    """A header that claims 60,000 × 60,000 pixels before a scan of a few bytes."""
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    path.write_bytes(data)


def png_bomb(path: Path) -> None:
    """A megabyte of zeros deflated, said to be 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside.jpg"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


IMAGES = [
    BadImage("cut off in the middle", lambda p: p.write_bytes(p.read_bytes()[:900]), "truncated"),
    BadImage("without its end", lambda p: p.write_bytes(p.read_bytes()[:-2]), "truncated"),
    BadImage("no bytes", lambda p: p.write_bytes(b""), "empty"),
    BadImage("not there", lambda p: p.unlink(), "missing"),
    BadImage("a folder of that name", replace_with_folder, "missing"),
    BadImage("HTML named .jpg", lambda p: p.write_text("<html>404</html>"), "not_an_image"),
    BadImage("random bytes", lambda p: p.write_bytes(bytes(range(256)) * 8), "not_an_image"),
    BadImage("a header of 60,000 × 60,000 pixels", huge_jpeg, "too_large"),
    BadImage("a PNG bomb, 900 million pixels in a kilobyte", png_bomb, "too_large"),
    BadImage("a symbolic link out of the images' folder", link_out, "outside_root"),
]  # fmt: skip

TABLES = [
    BadTable("no such file", str, {"csv": "none.csv"}, 2, "none.csv: no such file"),
    BadTable("no rows", lambda t: t.splitlines()[0], {}, 1, "the table must have rows, got none"),
    BadTable("a column that is not there", str, {"group": "patient"}, 1,
             "no column 'patient' (named by table.group); did you mean 'patient_id'?"),
    BadTable("semicolons for commas", lambda t: t.replace(",", ";"), {}, 1,
             "cells must be parted by commas, got ';'"),
    BadTable("not UTF-8", lambda t: t.replace("torso", "R\udcfccken"), {}, 1, "not a CSV in UTF-8"),
    BadTable("a line with too many cells", lambda t: t.replace("\n", ",x,y\n", 4), {}, 1,
             "each line must have 9 cells, as the first has, got 7 in line 5"),
    BadTable("a column twice", lambda t: t.replace("note", "sex", 1), {}, 1,
             "column names must differ, got 'sex' twice; rename one"),
    BadTable("an id twice", lambda t: t + t.splitlines()[1] + "\n", {}, 1,
             "column 'image_name' must not repeat"),
    BadTable("a row without a patient", lambda t: t.replace(",P0,", ",,", 1), {}, 1,
             "column 'patient_id' must not be empty"),
    BadTable("an id of ../../etc/passwd", replace_first_id("../../etc/passwd"), {}, 1,
             "images.path must stay inside the images' root, got '../../etc/passwd.jpg'"),
    BadTable("an absolute path", replace_first_id("/etc/passwd"), {}, 1,
             "images.path must stay inside the images' root, got '/etc/passwd.jpg'"),
    BadTable("text in a column of numbers", lambda t: t.replace(",5.0,", ",old,", 1), {}, 1,
             "column 'age_approx' must be a number or missing, got 'old'"),
    BadTable("a label of 2 in a binary column", lambda t: t[:-2] + "2\n",
             {"label_kind": "binary"}, 1, "column 'target' must be 0 or 1"),
    BadTable("one class only", lambda t: t.replace(",1\n", ",0\n"), {}, 1,
             "column 'target' must have two classes or more, got '0'"),
    BadTable("a label outside the given classes", str,
             {"label": "site", "classes": "torso,arm", "categorical": "sex"}, 1,
             "column 'site' must be one of torso, arm, got 'head/neck'"),
    BadTable("a scored class that no row has", str,
             {"label": "site", "positive": "leg", "categorical": "sex"}, 1,
             "label.positive must be values of column 'site' (head/neck, torso), got 'leg'"),
    BadTable("the label among the metadata", str, {"categorical": "sex,target"}, 1,
             "column 'target' must not be the label and metadata at once"),
    BadTable("fewer patients than folds", str, {"folds": "9"}, 1, "got 8 groups for 9 parts"),
    BadTable("given folds that part a patient", add_parts, {"fold_column": "part"}, 1,
             "a group must be in one part only"),
    BadTable("a holdout of 150 %", str, {"holdout": "1.5"}, 2, "folds.holdout must be in (0, 1)"),
    BadTable("a negative seed", str, {"seed": "-3"}, 2, "folds.seed must be 0 or more, got -3"),
    BadTable("an images folder that is not there", str, {}, 2,
             "--images must be a folder that is there, got 'none'"),
    BadTable("a size of 0", str, {"sizes": "0"}, 2, "--sizes must be in 1-4096 px"),
    BadTable("a fit that there is none of", str, {"fit": "squash"}, 2, "fit must be one of"),
    BadTable("an image path without a column", str, {"image_path": "a.jpg"}, 2,
             "images.path must name a column"),
]  # fmt: skip


@pytest.fixture(scope="module")
def spoiled_images(tmp_path_factory):
    """A dataset whose first images are at fault, one a kind: (exit code, failed.csv by id)."""
    folder = tmp_path_factory.mktemp("images")
    write_dataset(folder)
    paths = sorted((folder / "jpeg").iterdir())
    for case, path in zip(IMAGES, paths, strict=False):
        case.spoil(path)
    code = main(record_flags(folder, folder / "out"))
    with (folder / "out" / "failed.csv").open() as file:
        failed = {line["id"]: line for line in csv.DictReader(file)}
    return code, [path.stem for path in paths], failed


def test_bad_images_are_listed_and_only_they(spoiled_images):
    code, ids, failed = spoiled_images
    assert code == 3
    assert sorted(failed) == ids[: len(IMAGES)]


@pytest.mark.parametrize("place", range(len(IMAGES)), ids=[case.what for case in IMAGES])
def test_a_bad_image_is_told_with_its_reason(spoiled_images, place):
    _, ids, failed = spoiled_images
    assert failed[ids[place]]["reason"] == IMAGES[place].reason
    assert failed[ids[place]]["found"]


@pytest.mark.parametrize("case", TABLES, ids=[case.what for case in TABLES])
def test_a_bad_table_is_one_line_before_any_image_is_read(tmp_path, capsys, case):
    table = write_dataset(tmp_path)
    table.write_bytes(case.spoil(table.read_text()).encode("utf-8", "surrogateescape"))
    flags = record_flags(tmp_path, tmp_path / "out", **{"images": "none", **case.flags})
    assert main(flags) == case.code
    error = capsys.readouterr().err
    assert case.shows in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*/manifest.json"))


def test_a_byte_order_mark_is_no_fault(tmp_path):
    table = write_dataset(tmp_path)
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert main(record_flags(tmp_path, tmp_path / "out")) == 0


def test_a_label_that_is_missing_is_unknown_and_said_to_be(tmp_path, capsys):
    table = write_dataset(tmp_path)
    table.write_text(table.read_text()[:-2] + "NaN\n")
    assert main(record_flags(tmp_path, tmp_path / "out")) == 0
    assert "1 row has no label" in capsys.readouterr().out


def test_the_page_for_users_says_the_same():
    text = io.StringIO()
    text.write(
        "# What bad input looks like\n\nKept true by `tests/beam_jobs/test_bad_input.py`.\n\n"
    )
    text.write(
        "An image at fault is a line in `OUT/failed.csv`; the job goes on, and exits 3 when more "
    )
    text.write("than `--max_failures` of the rows fail.\n\n| image | reason |\n| --- | --- |\n")
    text.writelines(f"| {case.what} | `{case.reason}` |\n" for case in IMAGES)
    text.write(
        "\nA table or a command line at fault is one line on stderr, before any image is read. "
        "A path that is not there is the command line's fault, of\n"
    )
    text.write(
        "whichever command (`tests/test_missing_paths.py`); records or a run that are there and "
        "not complete are the data's.\n\n"
    )
    text.write("| input | exit code | the line says |\n| --- | --- | --- |\n")
    text.writelines(f"| {case.what} | {case.code} | {case.shows} |\n" for case in TABLES)
    assert DOC.read_text() == text.getvalue(), f"write this into {DOC.name}:\n{text.getvalue()}"
