"""Folder trees as tables: which images, which class, which part, and what is passed over."""

import pytest

from pipeline.dataset.labels import TableError
from pipeline.dataset.plan import make_plan
from pipeline.dataset.sources.folders import list_folders
from pipeline.dataset.spec import FoldersSpec, read_spec
from pipeline.dataset.table import read_table
from pipeline.errors import SettingsError


@pytest.fixture
def tree(tmp_path):
    """Writes empty files: only their names count here."""

    def tree(*paths):
        for path in paths:
            file = tmp_path / "root" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "root"

    return tree


def lines(root, *parts):
    frame, _ = list_folders(FoldersSpec(root=str(root), parts=parts))
    return [tuple(line) for line in frame.itertuples(index=False)]


def notes(root, *parts):
    return list_folders(FoldersSpec(root=str(root), parts=parts))[1]


def test_the_class_is_the_path_of_the_folder(tree):
    root = tree("b/2.JPG", "b/1.png", "a/deep/1.dcm")
    assert lines(root) == [
        ("a/deep/1.dcm", "a/deep", ""), ("b/1.png", "b", ""), ("b/2.JPG", "b", ""),
    ]  # fmt: skip


def test_the_first_level_is_the_part_where_parts_are_named(tree):
    root = tree("train/a/1.jpg", "valid/a/1.jpg", "valid/b/c/1.jpg", "other/a/1.jpg", "1.jpg")
    assert lines(root, "train", "valid") == [
        ("train/a/1.jpg", "a", "train"), ("valid/a/1.jpg", "a", "valid"),
        ("valid/b/c/1.jpg", "b/c", "valid"),
    ]  # fmt: skip
    assert notes(root, "train", "valid") == (
        "2 images are in no folder of folders.parts: passed over",
    )


def test_hidden_files_and_other_suffixes_are_counted(tree):
    root = tree("a/1.jpg", "a/.hidden.jpg", ".git/1.jpg", "a/Thumbs.db", "a/labels.csv")
    assert lines(root) == [("a/1.jpg", "a", "")]
    assert notes(root) == ("3 files are no images by their suffix, or hidden: passed over",)


def test_a_link_that_leaves_the_root_is_refused(tree, tmp_path):
    root = tree("a/1.jpg")
    (tmp_path / "secret.jpg").touch()
    (root / "a" / "2.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(TableError, match=r"2\.jpg: a link must stay inside the root"):
        lines(root)
    (root / "a" / "2.jpg").unlink()
    (root / "b").symlink_to(tmp_path)
    with pytest.raises(TableError, match="b: a link must stay inside the root"):
        lines(root)


def test_a_link_inside_the_root_is_followed_to_files_only(tree):
    root = tree("a/1.jpg")
    (root / "a" / "2.jpg").symlink_to(root / "a" / "1.jpg")
    (root / "a" / "loop").symlink_to(root)
    assert [path for path, _, _ in lines(root)] == ["a/1.jpg", "a/2.jpg"]
    assert notes(root) == ("1 linked folders lie elsewhere under the root: passed over",)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("trian",), "must be folders under the root, got 'trian'; did you mean 'train'"),
        (("empty",), "the tree must hold images"),
    ],
)
def test_a_tree_without_what_was_asked_for_is_told(tree, parts, message):
    root = tree("train/a/1.jpg")
    (root / "empty").mkdir()
    with pytest.raises(TableError, match=message):
        lines(root, *parts)


def test_a_root_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SettingsError, match=r"folders\.root must be a folder"):
        lines(tmp_path / "none")


def plan_of(root, **tables):
    parts = {"parts": list(tables.pop("parts", ()))}
    spec = read_spec(None, {"name": "toy", "folders": {"root": str(root), **parts}, **tables})
    table = read_table(spec)
    return table, *make_plan(table, spec, 100)


def test_a_tree_is_planned_like_a_table(tree):
    root = tree(*[f"{name}/{n}.jpg" for name in ("ill", "well") for n in range(20)])
    table, plan, rows = plan_of(root, folds={"count": 4})
    assert (table.label.kind, table.label.classes) == ("multiclass", ("ill", "well"))
    assert [part.classes for part in plan.parts] == [{"ill": 5, "well": 5}] * 4
    assert sorted(rows["id"]) == sorted(rows["path"])


def test_named_parts_are_kept_whatever_they_are_called(tree):
    root = tree(*[f"{part}/{name}/1.jpg" for part in ("train", "valid") for name in "ab"])
    _, plan, rows = plan_of(root, parts=("train", "valid"))
    assert [part.part for part in plan.parts] == ["train", "valid"]
    assert set(rows["fold"]) == {-1}


def test_a_flat_tree_without_labels_is_unlabelled(tree):
    table, plan, _ = plan_of(tree("1.jpg", "2.jpg"), label={"kind": "none"})
    assert [part.part for part in plan.parts] == ["unlabelled"]
    assert table.target.tolist() == [-1, -1]


def test_real_chest_x_rays_are_three_classes_in_three_parts(real_data):
    _, plan, rows = plan_of(real_data / "cxr150", parts=("train", "val", "test"))
    assert plan.label.classes == ("infected/covid", "infected/non-covid", "normal")
    assert {part.part: part.examples for part in plan.parts} == {
        "test": 615, "train": 5216, "val": 25,
    }  # fmt: skip
    stems = rows["id"].str.rpartition("/")[2]
    assert rows["id"].is_unique
    assert not stems.is_unique
