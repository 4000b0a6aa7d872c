"""Tables: what a CSV becomes, and how each fault of it is told."""

import numpy as np
import pytest

from pipeline.dataset.labels import TableError
from pipeline.dataset.spec import read_spec
from pipeline.dataset.table import read_table
from pipeline.errors import SettingsError

CSV = """image_name,patient_id,sex,age_approx,site,diagnosis,note,width,target
ISIC_3,P1,male,45.0,torso,nv,a,100,0
ISIC_1,P2,,NA,head/neck,mel,007,200,1
ISIC_2,P1,female,60.0,,nv,1e3,300,0
"""
BASE = {
    "name": "toy",
    "table": {"id": "image_name", "group": "patient_id", "keep": "all"},
    "label": {"column": "target"},
    "metadata": {"categorical": ["sex", "site"], "numeric": ["age_approx"]},
}


@pytest.fixture
def read(tmp_path):
    """Writes a CSV and reads it by BASE with `over` laid on top."""

    def read(text=CSV, over=None, encoding="utf-8"):
        path = tmp_path / "train.csv"
        path.write_text(text, encoding=encoding)
        tables = {**BASE, **(over or {})}
        tables["table"] = {**tables["table"], "csv": str(path)}
        return read_table(read_spec(None, tables))

    return read


def test_rows_are_in_order_of_id(read):
    table = read()
    assert table.ids.tolist() == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert table.groups.tolist() == ["P2", "P1", "P1"]
    assert table.paths.tolist() == ["ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg"]
    assert table.target.tolist() == [1, 0, 0]


def test_each_column_has_the_type_of_its_role_or_of_its_values(read):
    table = read()
    assert {f.name: (f.dtype, f.role) for f in table.features} == {
        "image_name": ("string", "id"),
        "patient_id": ("string", "group"),
        "sex": ("string", "category"),
        "site": ("string", "category"),
        "age_approx": ("float32", "number"),
        "diagnosis": ("string", "extra"),
        "note": ("string", "extra"),
        "csv_width": ("int64", "extra"),
    }


def test_missing_is_empty_text_or_nan(read):
    columns = read().columns
    assert columns["sex"].tolist() == ["", "female", "male"]
    np.testing.assert_array_equal(columns["age_approx"], np.array([np.nan, 60, 45], np.float32))


def test_what_counts_as_missing_is_the_specs_to_say(read):
    over = {"table": {**BASE["table"], "missing": ["torso"]}, "metadata": {"categorical": ["site"]}}
    assert read(over=over).columns["site"].tolist() == ["head/neck", "", ""]


def test_text_that_looks_like_a_number_keeps_its_zeros(read):
    assert read().columns["note"].tolist() == ["007", "1e3", "a"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(read):
    assert read(encoding="utf-8-sig").ids.tolist()[0] == "ISIC_1"


def test_without_a_group_column_each_row_is_its_own(read):
    table = read(over={"table": {"id": "image_name"}})
    assert table.groups.tolist() == table.ids.tolist()
    assert {f.role for f in table.features} == {"id", "category", "number"}


def test_dropped_ids_are_left_out_and_counted(read, tmp_path):
    (tmp_path / "dup.csv").write_text("image_name,image_name_2\nISIC_9,ISIC_1\n")
    label = {"column": "target", "kind": "binary"}  # the only 1 is dropped
    table = read(over={"folds": {"drop": f"{tmp_path}/dup.csv:image_name_2"}, "label": label})
    assert (table.ids.tolist(), table.dropped) == (["ISIC_2", "ISIC_3"], 1)
    table = read(over={"folds": {"drop": f"{tmp_path}/dup.csv"}})
    assert (len(table), table.dropped) == (3, 0)


def test_a_multiclass_label_has_its_classes_in_order(read):
    label = {"column": "diagnosis", "kind": "multiclass", "positive": ["mel"]}
    table = read(over={"label": label})
    assert (table.label.kind, table.label.classes, table.label.positive) == (
        "multiclass", ("mel", "nv"), ("mel",),
    )  # fmt: skip
    assert table.target.tolist() == [0, 1, 1]
    assert "diagnosis" not in [f.name for f in table.features]
    assert "target" not in [f.name for f in table.features]


def test_positive_says_which_text_is_1_for_a_binary_label(read):
    label = {"column": "diagnosis", "kind": "binary", "positive": ["mel"]}
    table = read(over={"label": label})
    assert (table.label.classes, table.target.tolist()) == (("nv", "mel"), [1, 0, 0])


def test_several_label_columns_are_multilabel(read):
    text = "image_name,patient_id,sex,site,age_approx,a,b\nx,p,,,,1,0\ny,p,,,,0.3,\n"
    table = read(text, {"label": {"column": ["a", "b"]}})
    assert (table.label.kind, table.label.classes) == ("multilabel", ("a", "b"))
    np.testing.assert_array_equal(table.target, np.array([[1, 0], [0.3, -1]], np.float32))


def test_a_label_that_is_missing_is_unknown(read):
    table = read(
        CSV.replace("nv,b", ",b").replace("nv,1e3", ",1e3"),
        {"label": {"column": "sex"}, "metadata": {}},
    )
    assert table.target.tolist() == [-1, 0, 1]


def test_one_class_is_refused_unless_the_kind_is_said(read):
    text = CSV.replace(",1\n", ",0\n")
    with pytest.raises(TableError, match=r"'target' must have two classes or more, got '0'; name"):
        read(text)
    table = read(text, {"label": {"column": "target", "kind": "binary"}})
    assert (table.target.tolist(), table.label.classes) == ([0, 0, 0], ("0", "1"))


def test_images_per_group_counts_what_is_left_after_drop(read, tmp_path):
    derived = {"metadata": {"derived": ["images_per_group"]}}
    table = read(over=derived)
    assert table.columns["images_per_group"].tolist() == [1.0, 2.0, 2.0]
    assert {f.name: (f.dtype, f.role) for f in table.features}["images_per_group"] == (
        "float32", "number",
    )  # fmt: skip
    (tmp_path / "dup.csv").write_text("image_name\nISIC_2\n")
    table = read(over={**derived, "folds": {"drop": f"{tmp_path}/dup.csv"}})
    assert table.columns["images_per_group"].tolist() == [1.0, 1.0]


def test_a_column_may_not_have_the_name_of_a_derived_one(read):
    text = CSV.replace("note", "images_per_group")
    with pytest.raises(TableError, match=r"'images_per_group' is also named by metadata\.derived"):
        read(text, {"metadata": {"derived": ["images_per_group"]}})


def test_joined_groups_are_dealt_as_one_and_keep_their_names(read, tmp_path):
    (tmp_path / "pairs.csv").write_text("id_1,id_2,distance\nISIC_1,ISIC_3,4\nISIC_9,ISIC_2,1\n")
    table = read(over={"folds": {"join_groups": f"{tmp_path}/pairs.csv"}})
    assert table.units.tolist() == ["P1", "P1", "P1"]
    assert table.groups.tolist() == ["P2", "P1", "P1"]
    assert "1 of 2 pairs in" in table.notes[0]
    assert "join 2 groups into 1" in table.notes[0]


def test_whole_number_classes_are_ordered_by_value(read):
    text = CSV.replace("300,0", "300,10").replace("100,0", "100,9")
    assert read(text).label.classes == ("1", "9", "10")


@pytest.mark.parametrize(
    ("change", "over", "message"),
    [
        (("ISIC_3", "ISIC_1"), {}, r"'image_name' must not repeat, got 'ISIC_1' again in line 3"),
        (("45.0", "old"), {}, r"'age_approx' must be a number or missing, got 'old' in line 2"),
        (("P2", ""), {}, r"'patient_id' must not be empty, got 1 such rows, the first in line 3"),
        (("ISIC_1", "../../etc/passwd"), {}, r"must stay inside the images' root, got '../../etc"),
        (("ISIC_1", "/etc/passwd"), {}, r"must stay inside the images' root, got '/etc/passwd"),
        ((",1\n", ",2\n"), {"label": {"column": "target", "kind": "binary"}}, "0 or 1 .*got '2'"),
        (("", ""), {"label": {"column": "targte"}}, r"no column 'targte' .*did you mean 'target'"),
        (("", ""), {"metadata": {"numeric": ["sex"]}}, "'sex' must be a number or missing"),
        (
            ("", ""),
            {"label": {"column": "diagnosis", "classes": ["nv", "bkl"]}},
            r"'diagnosis' must be one of nv, bkl, got 'mel' in line 3 \(1 such rows\)",
        ),
        (
            ("", ""),
            {"label": {"column": "diagnosis", "positive": ["melanoma"]}},
            r"label.positive must be values of column 'diagnosis' \(mel, nv\), got 'melanoma'",
        ),
        (("mel", "nv"), {"label": {"column": "diagnosis"}}, "two classes or more, got 'nv'"),
    ],
)  # fmt: skip
def test_a_fault_names_column_line_and_value(read, change, over, message):
    with pytest.raises(TableError, match=message):
        read(CSV.replace(*change) if change[0] else CSV, over)


def test_a_table_without_rows_or_without_a_file_is_refused(read, tmp_path):
    with pytest.raises(TableError, match="must have rows, got none"):
        read(CSV.splitlines()[0] + "\n")
    tables = {**BASE, "table": {**BASE["table"], "csv": str(tmp_path / "none.csv")}}
    with pytest.raises(SettingsError, match=r"none\.csv: no such file"):
        read_table(read_spec(None, tables))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"images": {"path": "a.jpg"}}, "images.path must name a column"),
        ({"name": "My Data"}, "name must be lower-case letters"),
        ({"folds": {"count": 1}}, "folds.count must be 2 or more, got 1"),
        ({"folds": {"holdout": 1.5}}, r"folds.holdout must be in \(0, 1\), got 1.5"),
        ({"label": {"kind": "binary"}}, "label.column must be given for label.kind 'binary'"),
        (
            {"label": {"column": ["a", "b"], "kind": "binary"}},
            "one column for label.kind 'binary', got a, b; name one, or take label.kind 'multil",
        ),
        ({"label": {"colunm": "x"}}, "unknown key 'colunm'; did you mean 'column'"),
        ({"metadata": {"derived": ["images_per_grop"]}}, "did you mean 'images_per_group'"),
        (
            {"table": {"id": "x"}, "metadata": {"derived": ["images_per_group"]}},
            "'images_per_group' must have table.group, got none",
        ),
        ({"label": {}, "folds": {"holdout": 0.1}}, "folds.holdout must not be given without label"),
        ({"label": {}, "folds": {"join_groups": "x"}}, "folds.join_groups must not be given with"),
        (
            {"values": {}},
            r"values must have columns or npy, and not both, got columns \[\] and npy",
        ),
        ({"values": {"columns": ["a"], "npy": "b"}}, "values must have columns or npy, and not"),
        (
            {"folders": {"root": "x"}, "values": {"npy": "b"}, "table": {}},
            "values must not be given for a folder tree",
        ),
        ({"folders": {"root": "x"}}, "table.id must not be given for a folder tree"),
        ({"folders": {"root": "x", "parts": ["a b"]}, "table": {}}, "folders.parts must be names"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(over, message):
    tables = {**BASE, **over}
    if "folders" not in over:
        tables["table"] = {"csv": "x.csv", **tables["table"]}
    with pytest.raises(SettingsError, match=message):
        read_spec(None, tables)


def test_a_binary_label_may_be_written_as_pandas_writes_it_beside_missing_values(read):
    text = CSV.replace(",0\n", ",0.0\n").replace("200,1\n", "200,1.0\n")
    table = read(text.replace("300,0.0\n", "300,\n"))
    assert (table.label.kind, table.target.tolist()) == ("binary", [1, -1, 0])


def test_two_values_and_one_of_them_positive_are_binary(read):
    table = read(over={"label": {"column": "diagnosis", "positive": ["mel"]}})
    assert (table.label.kind, table.label.classes) == ("binary", ("nv", "mel"))


def test_a_code_with_leading_zeros_stays_text(read):
    text = CSV.replace("1e3", "010").replace(",a,", ",1,")
    assert read(text).columns["note"].tolist() == ["007", "010", "1"]


def test_space_around_a_cell_parts_no_patient(read):
    table = read(CSV.replace("ISIC_3,P1,", "ISIC_3, P1 ,"))
    assert table.groups.tolist() == ["P2", "P1", "P1"]


def test_minus_one_is_left_out_as_pandas_writes_it_too(read):
    text = CSV.replace("note", "fold").replace(",a,", ",0.0,").replace("007", "1.0")
    table = read(text.replace("1e3", "-1.0"), {"folds": {"column": "fold"}})
    assert (table.ids.tolist(), table.dropped) == (["ISIC_1", "ISIC_3"], 1)


def test_classes_that_are_equal_as_numbers_have_one_order(read):
    text = CSV.replace("300,0", "300,01").replace("100,0", "100,²")
    assert read(text).label.classes == ("01", "1", "²")
    assert read(CSV.replace("300,0", "300,01")).label.classes == ("0", "01", "1")


def test_a_number_that_float32_cannot_hold_is_refused(read):
    with pytest.raises(TableError, match=r"'age_approx' must be a number .*got '1e60' in line 2"):
        read(CSV.replace("45.0", "1e60"))


def test_columns_that_would_share_a_name_in_the_plan_are_refused(read):
    text = CSV.replace("note", "path").replace("diagnosis", "csv_path")
    with pytest.raises(TableError, match="columns 'path' and 'csv_path' clash; rename one"):
        read(text)


def test_a_column_of_weights_is_floats_of_that_role_and_missing_is_nan(read):
    text = CSV.replace(",note,", ",trust,").replace(",a,", ",0.5,").replace(",1e3,", ",,")
    table = read(text, {"table": {**BASE["table"], "weight": "trust"}})
    [feature] = [f for f in table.features if f.role == "weight"]
    assert (feature.name, feature.dtype) == ("trust", "float32")
    np.testing.assert_array_equal(table.columns["trust"], np.float32([7, np.nan, 0.5]))


@pytest.mark.parametrize("weight", ["-1", "much", "inf"])
def test_a_weight_that_is_none_is_told_by_its_line(read, weight):
    text = CSV.replace(",a,", f",{weight},").replace(",1e3,", ",,")
    with pytest.raises(TableError, match=rf"'note' must be 0 or more, .* got '{weight}' in line 2"):
        read(text, {"table": {**BASE["table"], "weight": "note"}})


def test_a_weight_is_not_metadata_as_well(read):
    with pytest.raises(SettingsError, match=r"table\.weight must be a column of its own, got 'age"):
        read(over={"table": {**BASE["table"], "weight": "age_approx"}})
