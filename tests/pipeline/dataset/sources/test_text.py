"""Tables as text: three formats, one table; and what is wrong with a file is said."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.labels import TableError
from pipeline.dataset.plan import make_plan
from pipeline.dataset.sources.text import column_names, read_text
from pipeline.dataset.spec import read_spec
from pipeline.dataset.table import read_table
from pipeline.errors import SettingsError

CSV = 'id,note,age\na,"one, two",1.5\nb,"line\nbreak",\n'


@pytest.fixture
def write(tmp_path):
    def write(data, name="table"):
        (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    "pack",
    [str.encode, lambda text: text.encode("utf-8-sig"), lambda text: gzip.compress(text.encode())],
    ids=["csv", "byte-order mark", "gzip"],
)
def test_a_csv_reads_the_same_packed_and_with_a_byte_order_mark(write, pack):
    frame = read_text(write(pack(CSV)))
    assert frame.to_dict("list") == {
        "id": ["a", "b"], "note": ["one, two", "line\nbreak"], "age": ["1.5", ""],
    }  # fmt: skip


def test_a_parquet_file_gives_the_plan_of_its_csv(tmp_path):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "id": [f"i{n:03d}" for n in range(60)],
            "patient": rng.integers(0, 20, 60),
            "age": np.where(rng.random(60) < 0.2, np.nan, rng.integers(0, 18, 60) * 5.0),
            "score": rng.random(60),
            "thin": rng.random(60).astype(np.float32),
            "sex": pd.Categorical(rng.choice(["male", "female"], 60)),
            "seen": rng.random(60) < 0.5,
            "note": [None if n % 3 else f"n{n}" for n in range(60)],
            "target": rng.integers(0, 2, 60),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    digests = []
    for name in ("t.csv", "t.parquet"):
        tables = {
            "name": "toy",
            "table": {"csv": str(tmp_path / name), "id": "id", "group": "patient", "keep": "all"},
            "label": {"column": "target"},
            "metadata": {"numeric": ["age"], "categorical": ["sex"]},
        }
        spec = read_spec(None, tables)
        digests.append(make_plan(read_table(spec), spec, 10)[0].digest)
    assert digests[0] == digests[1]


@settings(deadline=None)  # writes a file each time
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_a_number_of_a_parquet_file_loses_nothing(tmp_path_factory, numbers):
    path = tmp_path_factory.getbasetemp() / "numbers.parquet"
    pq.write_table(pa.table({"x": numbers}), path)
    assert [float(text) for text in read_text(str(path))["x"]] == numbers


def test_columns_that_are_not_asked_for_are_left_out_of_a_parquet_file(tmp_path):
    pq.write_table(pa.table({"a": ["x"], "b": [[1.0, 2.0]]}), tmp_path / "t")
    assert read_text(str(tmp_path / "t"), without={"b"}).to_dict("list") == {"a": ["x"]}
    assert column_names(str(tmp_path / "t")) == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id;age\na;1,5\n", "cells must be parted by commas, got ';'"),
        ("id\tage\na\t1\n", "cells must be parted by commas, got tab"),
        ("id|age\na|1\n", r"cells must be parted by commas, got '\|'"),
        ("", "must begin with a line of column names, got none"),
        ("id,age", "must have rows, got none"),
        ("id,age,id\na,1,b\n", "column names must differ, got 'id' twice"),
        ("id,age\na,1\nb,1,5\nc\n", r"must have 2 cells, .* got 3 in line 3 \(2 such lines\)"),
        (b"id,age\n\xff\xfe,1\n", "not a CSV in UTF-8"),
        (b"\xff\xfe,age\na,1\n", "not a CSV in UTF-8"),
        (gzip.compress(CSV.encode() * 99, mtime=0)[:-20], "not a CSV in UTF-8"),
        (b"PAR1 and no more", "must be a whole Parquet file"),
    ],
    ids=[
        "semicolons", "tabs", "bars", "no bytes", "no rows", "a name twice", "ragged",
        "no UTF-8", "no UTF-8 in the header", "a gzip cut off", "a Parquet file cut off",
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_table_is_told(write, data, message):
    with pytest.raises(TableError, match=message) as caught:
        read_text(write(data))
    assert "a,1" not in str(caught.value)  # cells may name a patient


def test_a_list_where_text_is_wanted_is_refused(tmp_path):
    pq.write_table(pa.table({"spectrum": [[1.0, 2.0]]}), tmp_path / "t")
    with pytest.raises(TableError, match="'spectrum' must hold text or numbers, got list"):
        read_text(str(tmp_path / "t"))


def test_no_file_is_told(tmp_path):
    with pytest.raises(SettingsError, match="no such file"):
        read_text(str(tmp_path / "none.csv"))
