"""Tables and folders to score: columns by flag or as in the records, and what is told of them."""

import numpy as np
import pytest

from pipeline.dataset.labels import TableError
from pipeline.errors import SettingsError
from pipeline.images.render import RenderSpec
from pipeline.records.label import LabelInfo
from pipeline.scoring.exported import Column, ExportedModel, Rendering
from pipeline.scoring.rows import Source, read_rows

RECORDS = {
    "table": {"id": "image", "group": "patient", "missing": ["", "unknown"]},
    "images": {"path": "{patient}/{image}.png"},
}
SEX = Column(name="sex", input="sex", known=("female", "male"))
AGE = Column(name="age", input="age", known=None)
WIDTH = Column(name="csv_width", input="csv_width", known=None)
IN_GROUP = Column(name="images_per_group", input="images_per_group", known=None)


def model(*columns, records=RECORDS):
    return ExportedModel(
        folder="model", digest="", label=LabelInfo(kind="binary", classes=("0", "1")),
        columns=columns, rendering=Rendering(32, RenderSpec()), spec=records,
    )  # fmt: skip


def read(tmp_path, text, *models, **flags):
    (tmp_path / "t.csv").write_text(text)
    return read_rows(Source(images="images", csv=str(tmp_path / "t.csv"), **flags), models)


def test_columns_are_found_and_missing_values_known_as_in_the_records(tmp_path):
    text = (
        "image,patient,sex,age,width\nb,P2,unknown,,700\na,P1,male,50,800\nc,P2,female,unknown,6\n"
    )
    rows = read(tmp_path, text, model(SEX, AGE, WIDTH, IN_GROUP))
    frame = rows.frame
    assert frame["row"].tolist() == [0, 1, 2]
    assert frame["id"].tolist() == ["a", "b", "c"]
    assert frame["group"].tolist() == ["P1", "P2", "P2"]
    assert frame["path"].tolist() == ["P1/a.png", "P2/b.png", "P2/c.png"]
    assert frame["sex"].tolist() == ["male", "", "female"]
    np.testing.assert_array_equal(frame["age"], [50, np.nan, np.nan])
    assert frame["csv_width"].tolist() == [800, 700, 6]
    assert frame["images_per_group"].tolist() == [1, 2, 2]
    assert rows.notes == ()


def test_flags_go_before_the_records(tmp_path):
    flags = {"id": "name", "image_path": "x/{name}.jpg", "group": "who", "missing": ("?",)}
    rows = read(tmp_path, "name,who,sex\nn,W,?\n", model(SEX), **flags)
    assert rows.frame.loc[0, ["id", "group", "path", "sex"]].tolist() == ["n", "W", "x/n.jpg", ""]


def test_a_template_or_group_of_other_columns_is_left_out(tmp_path):
    rows = read(tmp_path, "image\ni\n", model(IN_GROUP))
    assert rows.frame.loc[0, ["id", "group", "path"]].tolist() == ["i", "i", "i.jpg"]
    assert "no column 'images_per_group', which the models take" in rows.notes[0]


def test_unknown_values_are_those_that_no_model_knows(tmp_path):
    other = Column(name="sex", input="sex", known=("other",))
    rows = read(tmp_path, "image,sex\na,other\nb,x\nc,male\n", model(SEX), model(other))
    assert [note.partition(": ")[2] for note in rows.notes] == [
        "1 row holds a 'sex' that no model met in training"
    ]


def test_models_that_take_a_column_for_two_things_are_refused(tmp_path):
    number = Column(name="sex", input="sex", known=None)
    with pytest.raises(SettingsError, match="got 'sex' as a category and as a number"):
        read(tmp_path, "image,sex\na,male\n", model(SEX), model(number))


def test_a_table_without_the_records_id_asks_for_one(tmp_path):
    with pytest.raises(SettingsError, match=r"--id must be given: .* no column 'image'"):
        read(tmp_path, "name\na\n", model())
    with pytest.raises(SettingsError, match="--id must be given"):
        read(tmp_path, "name\na\n", model(records={}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\na\na\n", "column 'image' must not repeat"),
        ("image\n../a\n", "images.path must stay inside the images' root"),
        ("image,age\na,old\n", "column 'age' must be a number or missing, got 'old'"),
    ],
)
def test_a_table_at_fault_is_refused_as_by_make_records(tmp_path, text, message):
    with pytest.raises(TableError, match=message):
        read(tmp_path, text, model(AGE))


def test_a_folders_ids_are_paths_without_endings_unless_the_records_were_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/x.jpg", "x.jpg"):
        (tmp_path / name).write_bytes(b"")
    source = Source(images=str(tmp_path))
    of_tree = model(records={"table": {"id": "file"}})
    frame = read_rows(source, [model()]).frame
    assert (frame["id"].tolist(), frame["group"].tolist()) == (["a/x", "x"],) * 2
    assert frame["path"].tolist() == ["a/x.jpg", "x.jpg"]
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(TableError, match="without their ending must not repeat, got 1 that do"):
        read_rows(source, [model()])
    assert read_rows(source, [of_tree]).frame["id"].tolist() == ["a/x.jpg", "x.jpg", "x.png"]
