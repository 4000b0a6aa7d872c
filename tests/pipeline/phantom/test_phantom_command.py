"""`python -m pipeline.phantom`: the files, their bytes, and what is refused."""

import cv2
import pandas as pd
import pytest

from pipeline.errors import SettingsError
from pipeline.phantom.__main__ import main
from pipeline.phantom.write import PhantomSpec, write_phantom

SMALL = "--patients 3 --images_per_patient 3 --sizes 64x48,48x64"


def draw(folder, more=""):
    assert main([*SMALL.split(), *more.split(), "--output", str(folder)]) == 0
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_flags_give_the_same_bytes_and_another_seed_gives_others(tmp_path):
    first = draw(tmp_path / "a")
    assert draw(tmp_path / "b") == first
    other = draw(tmp_path / "c", "--seed 8")
    assert not set(first.values()) & set(other.values())


def test_the_number_of_threads_does_not_change_the_bytes(tmp_path, monkeypatch):
    first = draw(tmp_path / "a")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert draw(tmp_path / "b") == first


def test_each_row_has_its_jpeg_and_no_partial_file_stays(tmp_path):
    files = draw(tmp_path)
    names = pd.read_csv(tmp_path / "train.csv")["image_name"]
    assert set(files) == {"train.csv", *(f"{name}.jpg" for name in names)}
    assert len(list((tmp_path / "jpeg").iterdir())) == len(names)


def test_jpegs_decode_to_the_wanted_sizes(tmp_path):
    draw(tmp_path)
    shapes = {cv2.imread(str(path)).shape for path in (tmp_path / "jpeg").iterdir()}
    assert shapes == {(48, 64, 3), (64, 48, 3)}


def test_the_table_is_missing_while_images_are(tmp_path, monkeypatch):
    draw(tmp_path)

    def fail(**_):
        raise OSError("disk full")

    monkeypatch.setattr("pipeline.phantom.write.draw_picture", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(PhantomSpec(patients=2, sizes=((64, 48),)), tmp_path)
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--patiens 3", "unknown flag --patiens; did you mean '--patients'"),
        ("--positive_shar=0.1", "unknown flag --positive_shar; did you mean '--positive_share'"),
        ("--patients many", "invalid int value: 'many'"),
        ("--sizes 640", "each must be WIDTHxHEIGHT, got '640'"),
    ],
)
def test_a_bad_command_line_leaves_with_2_and_says_why(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_value_out_of_range_returns_2_and_writes_nothing(tmp_path, capsys):
    assert main(["--positive_share", "4", "--output", str(tmp_path / "out")]) == 2
    assert "positive_share must be 0 to 1, got 4.0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patients": 0}, "patients must be 1 to 1000000, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"images_per_patient": 0.5}, "images_per_patient must be 1 to 100, got 0.5"),
        ({"sizes": ((640, 9),)}, "sizes must be 32 to 8192 pixels a side, got 640x9"),
    ],
)
def test_a_spec_out_of_range_is_refused(setting, message):
    with pytest.raises(SettingsError, match=message):
        PhantomSpec(**setting)
