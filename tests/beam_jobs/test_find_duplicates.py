"""`find_duplicates` as a user runs it: on folders, on records, on what cannot be read."""

import csv
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beam_jobs.find_duplicates import main
from benchmarks.duplicates import COPIES, copy_of, find_copies
from pipeline.phantom.write import PhantomSpec, write_phantom
from records_factory import write_toy_records


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    spec = PhantomSpec(patients=6, seed=5, images_per_patient=4.0, sizes=((256, 256), (320, 240)))
    write_phantom(spec, folder)
    return folder / "jpeg"


def pairs(path: Path) -> list[tuple[str, str, int]]:
    with path.open(newline="") as file:
        return [(row["id_1"], row["id_2"], int(row["distance"])) for row in csv.DictReader(file)]


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_copies_of_every_kind_are_found_in_another_folder(phantom, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    kinds = itertools.cycle(COPIES)
    originals = sorted(phantom.iterdir())
    for seed, (path, kind) in enumerate(zip(originals, kinds, strict=False)):
        (copies / f"{path.stem}_{kind}.jpg").write_bytes(copy_of(path, kind, seed))
    assert run(phantom, copies, "--stems", "--output", tmp_path / "out.csv") == 0
    found = pairs(tmp_path / "out.csv")
    wrong = [(one, other) for one, other, _ in found if not other.startswith(f"{one}_")]
    missed = {path.stem for path in originals} - {one for one, _, _ in found}
    assert not wrong
    assert len(missed) <= 1, f"{sorted(missed)} of {len(originals)} were missed"


def test_dropping_id_2_leaves_one_of_each_picture(phantom, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(phantom, images)
    originals = sorted(path.name for path in phantom.iterdir())
    for seed, name in enumerate(originals[:5]):
        (images / f"A_{name}").write_bytes(copy_of(phantom / name, "turned", seed))
        (images / f"Z_{name}").write_bytes((phantom / name).read_bytes())
    assert run(images, "--output", tmp_path / "out.csv") == 0
    dropped = {other for _, other, _ in pairs(tmp_path / "out.csv")}
    kept = {path.name for path in images.iterdir()} - dropped
    assert {name.removeprefix("A_").removeprefix("Z_") for name in kept} == set(originals)
    assert len(kept) == len(originals)


@pytest.mark.parametrize("workers", [1, 2])
def test_record_sets_are_searched_by_id(tmp_path, workers):
    write_toy_records(tmp_path / "a", rows=12, size_px=64)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    out = tmp_path / "out.csv"
    assert run(tmp_path / "a", tmp_path / "b", "--output", out, "--workers", workers) == 0
    ids = [f"ISIC_{row:07d}" for row in range(12)]
    assert pairs(out) == [(name, name, 0) for name in ids]


def test_a_file_that_is_no_image_is_told_and_ends_nothing(phantom, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(phantom, images)
    (images / "broken.jpg").write_bytes(b"<html>")
    (images / "empty.jpg").write_bytes(b"")
    assert run(images, "--output", tmp_path / "out.csv") == 0
    text = capsys.readouterr().out
    assert "2 that could not be read" in text
    assert "broken.jpg: not_an_image" in text
    assert "empty.jpg: empty" in text


def test_damaged_records_are_an_error_that_names_the_file(tmp_path, capsys):
    manifest = write_toy_records(tmp_path / "a", rows=12)
    shard = tmp_path / "a" / manifest.shards[0].file
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    assert run(tmp_path / "a", "--output", tmp_path / "out.csv") == 1
    assert manifest.shards[0].file in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("distance", [-1, 12])
def test_a_distance_that_banding_cannot_promise_is_refused(phantom, tmp_path, capsys, distance):
    assert run(phantom, "--output", tmp_path / "out.csv", "--distance", distance) == 2
    assert f"--distance must be in 0-11, got {distance}" in capsys.readouterr().err


def test_stems_that_two_files_share_are_refused(phantom, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        shutil.copy(next(phantom.iterdir()), tmp_path / "images" / folder / "1.jpg")
    assert run(tmp_path / "images", "--stems", "--output", tmp_path / "out.csv") == 1
    assert "a/1.jpg and b/1.jpg" in capsys.readouterr().err


@pytest.mark.slow
def test_copies_of_real_images_are_found_and_nothing_else(real_data):
    # The set that thresholds were not chosen on. A crop that is turned, relit and resized as well
    # is harder than what is promised, which is one change at a time.
    paths = sorted((real_data / "siim2020" / "jpeg512").glob("*.jpg"))
    with ThreadPoolExecutor(2) as pool:
        for kind, (recall, precision) in find_copies(paths, pool).items():
            assert recall >= (0.90 if kind == "all_at_once" else 0.95), (kind, recall)
            assert precision >= 0.95, (kind, precision)


@pytest.mark.slow
def test_all_byte_identical_real_files_are_found(real_data, tmp_path):
    folder = real_data / "cxr150"
    assert run(folder, "--output", tmp_path / "out.csv") == 0
    found = {other: one for one, other, _ in pairs(tmp_path / "out.csv")}
    by_content: dict[bytes, list[str]] = {}
    for path in sorted(folder.rglob("*.jp*g")):
        by_content.setdefault(path.read_bytes(), []).append(path.relative_to(folder).as_posix())
    groups = [group for group in by_content.values() if len(group) > 1]
    assert len(groups) == 30
    for first, *others in map(sorted, groups):
        assert all(found[other] == first for other in others)
