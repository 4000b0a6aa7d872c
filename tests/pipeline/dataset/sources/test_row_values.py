"""Vectors of floats: the same numbers from every source, read by row, and faults told."""

import csv
import gzip
import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.labels import TableError
from pipeline.dataset.sources.values import read_with_values, stage_values
from pipeline.dataset.spec import TableSpec, ValuesSpec
from pipeline.records.values import ValuesError, read_values

NAMES = ["w0", "w1", "w2"]
NUMBERS = np.array([[0.1, -2, 3e-5], [4, np.nan, 6], [7, 8, 1e30]], np.float32)
TEXTS = [["0.1", "-2", "3e-5"], ["4", "NA", "6"], ["7", "8", "1e30"]]


def read_all(path, folder, **values):
    """(the other columns, float32 [N, D], the source)."""
    spec = ValuesSpec(**(values or {"columns": ("w0:w2",)}))
    frame, rows = read_with_values(TableSpec(csv=str(path), id="id"), spec)
    source = stage_values(rows.source, str(folder))
    found = [
        read_values(source, int(offset), int(size))
        for offset, size in zip(rows.offsets, rows.sizes, strict=True)
    ]
    return frame, np.stack([numbers for numbers, _ in found]), source


def write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def table(tmp_path):
    """A CSV with the vector between two other columns."""
    lines = [f"i{n},{','.join(cells)},n{n}" for n, cells in enumerate(TEXTS)]
    return write_lines(tmp_path / "t.csv", ["id,w0,w1,w2,note", *lines])


def test_a_csv_gives_numbers_and_the_other_columns(table, tmp_path):
    frame, numbers, source = read_all(table, tmp_path)
    np.testing.assert_array_equal(numbers, NUMBERS)
    assert numbers.dtype == np.float32
    assert frame.to_dict("list") == {"id": ["i0", "i1", "i2"], "note": ["n0", "n1", "n2"]}
    assert (source.length, source.spans) == (3, ((1, 4),))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "byte-order mark"])
def test_line_ends_blank_lines_and_newlines_in_quotes_shift_no_row(tmp_path, start, end):
    rows = [['a "b"', "new\nline, comma"], ["x", ""], ["", 'y"']]
    text = start + end.join(["id,w0,w1,w2,note", ""])
    for number, (note, more) in enumerate(rows):
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator=end).writerow([note + more, *TEXTS[number], more])
        text += buffer.getvalue() + end
    (tmp_path / "t.csv").write_bytes(text.encode())
    frame, numbers, _ = read_all(tmp_path / "t.csv", tmp_path)
    np.testing.assert_array_equal(numbers, NUMBERS)
    assert frame["note"].tolist() == [more for _, more in rows]


def test_the_last_row_needs_no_line_end(table, tmp_path):
    table.write_bytes(table.read_bytes().rstrip(b"\n"))
    np.testing.assert_array_equal(read_all(table, tmp_path)[1], NUMBERS)


def test_columns_apart_are_one_vector_in_the_tables_order(table, tmp_path):
    frame, numbers, source = read_all(table, tmp_path, columns=("w0", "w2"))
    np.testing.assert_array_equal(numbers, NUMBERS[:, [0, 2]])
    assert source.spans == ((1, 2), (3, 4))
    assert frame["w1"].tolist() == ["-2", "NA", "8"]
    assert read_all(table, tmp_path, columns=("w0:w1", "w2"))[2].spans == ((1, 4),)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8", "<i2"])
def test_an_array_gives_its_rows(tmp_path, dtype):
    write_lines(tmp_path / "t.csv", ["id", "a", "b"])
    array = np.arange(8).reshape(2, 4).astype(dtype)
    np.save(tmp_path / "v.npy", array)
    _, numbers, _ = read_all(tmp_path / "t.csv", tmp_path, npy=str(tmp_path / "v.npy"))
    np.testing.assert_array_equal(numbers, array.astype(np.float32))


@pytest.mark.parametrize("layout", ["list", "fixed list", "columns"])
def test_a_parquet_file_gives_its_lists_or_columns(tmp_path, layout):
    ids = {"id": ["a", "b", "c"]}
    lists = [[None if cell != cell else float(cell) for cell in row] for row in NUMBERS]
    if layout == "columns":
        transposed = zip(*lists, strict=True)
        columns = {name: pa.array(column) for name, column in zip(NAMES, transposed, strict=True)}
        chosen = "w0:w2"
    else:
        size = [3] if layout == "fixed list" else []
        columns, chosen = {"spectrum": pa.array(lists, pa.list_(pa.float64(), *size))}, "spectrum"
    pq.write_table(pa.table(ids | columns), tmp_path / "t.parquet", row_group_size=2)
    frame, numbers, source = read_all(tmp_path / "t.parquet", tmp_path, columns=(chosen,))
    np.testing.assert_array_equal(numbers, NUMBERS)
    assert frame.to_dict("list") == ids
    np.testing.assert_array_equal(np.load(source.path), NUMBERS)  # one that numpy reads


@settings(deadline=None)  # writes a file each time
@given(st.lists(st.floats(width=32) | st.none(), min_size=1, max_size=9))
def test_a_number_written_in_full_comes_back_whole(tmp_path_factory, numbers):
    folder = tmp_path_factory.getbasetemp()
    cells = ["" if number is None else repr(number) for number in numbers]
    header = ",".join(f"w{place}" for place in range(len(cells)))
    write_lines(folder / "t.csv", [f"id,{header}", f"a,{','.join(cells)}"])
    _, found, _ = read_all(folder / "t.csv", folder, columns=(f"w0:w{len(cells) - 1}",))
    wanted = [np.nan if number is None else number for number in numbers]
    np.testing.assert_array_equal(found[0], np.array(wanted, np.float32))


def test_the_bytes_are_those_of_the_row(table, tmp_path):
    _, rows = read_with_values(TableSpec(csv=str(table), id="id"), ValuesSpec(columns=("w0:w2",)))
    _, data = read_values(rows.source, int(rows.offsets[1]), int(rows.sizes[1]))
    assert data == b"i1,4,NA,6,n1"
    assert len(hashlib.sha256(data).hexdigest()) == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("4,NA,6", "4,x1,6"), "not_numbers"),
        (("4,NA,6", "4,NA;6"), "no_row"),
        (("4,NA,6", '4,"A,6'), "no_row"),
        (("4,NA,6", "4,8e99,"), "out_of_range"),
    ],
)
def test_a_row_that_was_changed_after_the_plan_has_a_reason(table, tmp_path, change, reason):
    _, rows = read_with_values(TableSpec(csv=str(table), id="id"), ValuesSpec(columns=("w0:w2",)))
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(ValuesError) as caught:
        read_values(rows.source, int(rows.offsets[1]), int(rows.sizes[1]))
    assert caught.value.reason == reason


@pytest.mark.parametrize("change", [lambda path: path.write_text("id,w0"), lambda p: p.unlink()])
def test_a_file_that_became_short_or_went_away_has_a_reason(table, change):
    _, rows = read_with_values(TableSpec(csv=str(table), id="id"), ValuesSpec(columns=("w0:w2",)))
    change(table)
    with pytest.raises(ValuesError, match="no_row"):
        read_values(rows.source, int(rows.offsets[1]), int(rows.sizes[1]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ("w0:w9",),
            r"no column 'w9' \(named by values.columns, as 'w0:w9'\); known are id, note, w0",
        ),
        (("w2:w0",), "values.columns must be FIRST:LAST, got 'w2:w0' backwards"),
        (("w1", "w0"), "in the table's order, each once, got 'w0' after a column to its right"),
        (("w0:w1", "w1"), "in the table's order, each once, got 'w1'"),
    ],
)
def test_columns_that_make_no_vector_are_told(table, tmp_path, columns, message):
    with pytest.raises(TableError, match=message):
        read_all(table, tmp_path, columns=columns)


def test_a_row_of_another_length_is_told_before_any_is_read(table, tmp_path):
    table.write_text(table.read_text().replace("i1,4,", "i1,"))
    with pytest.raises(TableError, match="row 2: a row must have 5 cells, got 4"):
        read_all(table, tmp_path)


def test_a_quote_that_is_never_closed_does_not_take_the_rest_for_one_row(table, tmp_path):
    long = "i3,1,2,3," + "n" * 1023 + "\n"
    table.write_text(table.read_text().replace("n1", '"n1') + long * (1 << 16))
    with pytest.raises(TableError, match=r"a row must be under .* got more in row 2; a quote"):
        read_all(table, tmp_path)


def test_a_gzipped_csv_cannot_be_read_by_row(table, tmp_path):
    table.write_bytes(gzip.compress(table.read_bytes()))
    with pytest.raises(TableError, match=r"got a gzipped CSV; unpack it \(gunzip -k\)"):
        read_all(table, tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), r"rows must be the 2 of .*t\.csv, got 3"),
        (np.zeros(2), "must be numbers of shape"),
        (np.zeros((2, 4)).T.copy().T, "must be numbers of shape .* in C order, got .* transposed"),
        (np.array([["a"], ["b"]]), "must be numbers of shape"),
        (np.array([[None], [1]]), "must be numbers of shape .*, got object"),
    ],
)
def test_an_array_that_does_not_fit_the_table_is_told(tmp_path, array, message):
    write_lines(tmp_path / "t.csv", ["id", "a", "b"])
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(TableError, match=message):
        read_all(tmp_path / "t.csv", tmp_path, npy=str(tmp_path / "v.npy"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 2.0], [1.0]]), "'v' must hold 2 numbers a row, .* got 1 in row 2"),
        (pa.array([None, [1.0]]), "'v' must hold lists, got none in row 1"),
        (pa.array(["a", "b"]), "'v' must hold numbers"),
    ],
)
def test_a_parquet_column_that_is_no_vector_is_told(tmp_path, column, message):
    pq.write_table(pa.table({"id": ["a", "b"], "v": column}), tmp_path / "t")
    with pytest.raises(TableError, match=message):
        read_all(tmp_path / "t", tmp_path, columns=("v",))
