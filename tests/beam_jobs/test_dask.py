"""The second engine: Dask's workers, processes on loopback."""

import sys

import pytest

from beam_jobs import make_records, verify_records
from dataset_factory import record_flags, write_dataset


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
def test_records_that_dasks_workers_write_are_the_same_bytes(tmp_path, capsys):
    write_dataset(tmp_path)
    here, dask = tmp_path / "here", tmp_path / "dask"
    assert make_records.main(record_flags(tmp_path, here)) == 0
    capsys.readouterr()
    on_dask = ["--runner", "dask", "--workers", "2"]
    assert make_records.main([*record_flags(tmp_path, dask), *on_dask]) == 0
    assert "24 of 24 images" in capsys.readouterr().err
    assert contents(dask) == contents(here)
    assert verify_records.main([f"{dask}/64", *on_dask]) == 0
    assert "no fault" in capsys.readouterr().out


def test_without_dask_the_message_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    write_dataset(tmp_path)
    assert make_records.main([*record_flags(tmp_path, tmp_path / "out"), "--runner", "dask"]) == 2
    assert "pip install -c constraints.txt -e '.[dask]'" in capsys.readouterr().err
