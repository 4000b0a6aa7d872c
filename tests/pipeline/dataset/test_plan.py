"""Plans: who goes where, the same for any order of the rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.labels import TableError
from pipeline.dataset.plan import (
    PlanError,
    cut_part,
    make_plan,
    read_plan,
    read_plan_rows,
    read_shard_rows,
    write_plan,
)
from pipeline.dataset.plan_report import describe_parts
from pipeline.dataset.spec import read_spec
from pipeline.dataset.table import read_table


def write_csv(folder, frame):
    path = folder / "train.csv"
    frame.to_csv(path, index=False)
    return str(path)


def spec_of(csv, **folds):
    return read_spec(
        None,
        {
            "name": "toy",
            "table": {"csv": csv, "id": "id", "group": "patient"},
            "label": {"column": "target"},
            "metadata": {"numeric": ["path"]},
            "folds": folds,
        },
    )


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    patients = rng.integers(0, 40, 300)
    return pd.DataFrame(
        {
            "id": [f"i{n:03d}" for n in range(300)],
            "patient": [f"p{n}" for n in patients],
            "target": rng.integers(0, 2, 300),
            "path": rng.integers(0, 9, 300),  # a name that the plan itself uses
            "fold": patients % 3,
        }
    )


def plan_of(csv, rows_per_shard=50, **folds):
    spec = spec_of(csv, **folds)
    return make_plan(read_table(spec), spec, rows_per_shard)


def test_the_order_of_the_rows_changes_nothing(frame, tmp_path):
    plan, rows = plan_of(write_csv(tmp_path, frame))
    again, shuffled = plan_of(write_csv(tmp_path, frame.sample(frac=1, random_state=3)))
    assert plan.digest == again.digest
    pd.testing.assert_frame_equal(rows, shuffled)


@pytest.mark.parametrize("change", [("seed", 43), ("count", 4), ("holdout", 0.2)])
def test_another_cut_has_another_digest(frame, tmp_path, change):
    csv = write_csv(tmp_path, frame)
    assert plan_of(csv)[0].digest != plan_of(csv, **dict([change]))[0].digest


def test_one_changed_value_is_another_digest(frame, tmp_path):
    digest = plan_of(write_csv(tmp_path, frame))[0].digest
    frame.loc[7, "path"] += 1
    assert plan_of(write_csv(tmp_path, frame))[0].digest != digest


def test_rows_number_the_examples_in_order_of_id(frame, tmp_path):
    _, rows = plan_of(write_csv(tmp_path, frame))
    assert rows.sort_values("row")["id"].tolist() == sorted(frame["id"])


def test_a_shard_is_full_and_a_fair_sample_of_its_part(frame, tmp_path):
    plan, rows = plan_of(write_csv(tmp_path, frame), rows_per_shard=25)
    for number, shard in enumerate(plan.shards):
        mine = rows[rows["shard"] == number]
        assert len(mine) == shard.rows <= 25
        assert set(mine["part"]) == {shard.part}
        assert mine["position"].tolist() == list(range(len(mine)))
        assert not mine["id"].is_monotonic_increasing
    per_part = pd.Series([s.rows for s in plan.shards]).groupby([s.part for s in plan.shards])
    assert (per_part.max() - per_part.min() <= 1).all()


def test_a_holdout_is_a_part_of_its_share_and_shares_no_group(frame, tmp_path):
    plan, rows = plan_of(write_csv(tmp_path, frame), holdout=0.25)
    assert plan.parts[-1].part == "holdout"
    assert 60 <= plan.parts[-1].examples <= 90
    assert (rows.loc[rows["part"] == "holdout", "fold"] == -1).all()
    assert rows.groupby("group")["part"].nunique().max() == 1


def test_given_folds_are_kept(frame, tmp_path):
    frame.loc[frame["patient"] == "p1", "fold"] = -1
    plan, rows = plan_of(write_csv(tmp_path, frame), column="fold")
    wanted = frame[frame["fold"] >= 0].set_index("id")["fold"]
    assert rows.set_index("id")["fold"].to_dict() == wanted.to_dict()
    assert plan.dropped == int((frame["fold"] == -1).sum()) > 0


def test_given_folds_that_split_a_group_are_refused(frame, tmp_path):
    frame["fold"] = range(300)
    with pytest.raises(TableError, match=r"a group must be in one part only, got \d+ groups"):
        plan_of(write_csv(tmp_path, frame), column="fold")


def test_a_part_of_no_known_name_is_refused(frame, tmp_path):
    frame["fold"] = frame["fold"].astype(object)
    frame.loc[[7, 205], "fold"] = ["training", "validation"]
    frame = frame.sample(frac=1, random_state=1)
    line = 2 + min(frame.index.get_loc(7), frame.index.get_loc(205))
    message = rf"must be a fold's number, .* got '\w+' in line {line} \(2 such rows\)"
    with pytest.raises(TableError, match=message):
        plan_of(write_csv(tmp_path, frame), column="fold")


def test_given_parts_may_have_names(frame, tmp_path):
    frame["fold"] = frame["fold"].map({0: "train", 1: "val", 2: "test"})
    plan, rows = plan_of(write_csv(tmp_path, frame), column="fold")
    assert [part.part for part in plan.parts] == ["test", "train", "val"]
    assert set(rows["fold"]) == {-1}


def test_an_unlabelled_table_is_one_part(frame, tmp_path):
    tables = {"name": "toy", "table": {"csv": write_csv(tmp_path, frame), "id": "id"}}
    spec = read_spec(None, tables)
    plan, rows = make_plan(read_table(spec), spec, 100)
    assert [part.part for part in plan.parts] == ["unlabelled"]
    assert set(rows["target"]) == {-1}


def test_a_plan_is_read_back_as_it_was_written(frame, tmp_path):
    plan, rows = plan_of(write_csv(tmp_path, frame))
    write_plan(str(tmp_path / "plan"), plan, rows)
    again = read_plan(str(tmp_path / "plan"))
    assert again.to_json() == plan.to_json()
    pd.testing.assert_frame_equal(read_plan_rows(str(tmp_path / "plan")), rows, check_dtype=False)
    shard = read_shard_rows(str(tmp_path / "plan"), 3)
    assert shard["row"].tolist() == rows.loc[rows["shard"] == 3, "row"].tolist()


def test_a_plan_that_is_not_there_or_damaged_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"plan\.json: no such file; run make_records"):
        read_plan(str(tmp_path))
    (tmp_path / "plan.json").write_text('{"schema_version": 1}')
    with pytest.raises(PlanError, match=r"plan\.json: not a plan"):
        read_plan(str(tmp_path))
    (tmp_path / "plan.json").write_text('{"schema_version": 99}')
    with pytest.raises(PlanError, match="schema_version must be 1, got 99"):
        read_plan(str(tmp_path))


@given(st.integers(1, 40), st.integers(1, 120))
def test_every_row_is_in_exactly_one_shard(rows_per_shard, examples):
    shards = cut_part("toy", "fold0", examples, rows_per_shard)
    sizes = [shard.rows for shard in shards]
    assert sum(sizes) == examples
    assert max(sizes) <= rows_per_shard
    assert max(sizes) - min(sizes) <= 1


def test_the_fold_table_adds_up_and_says_what_was_not_checked(frame, tmp_path):
    frame["patient"] = frame["id"]
    plan, _ = plan_of(write_csv(tmp_path, frame))
    text = describe_parts(plan.parts, plan.label, dropped=2)
    last = next(line for line in text.splitlines() if line.startswith("all")).split()
    positives = int(frame["target"].sum())
    assert last == ["all", "300", "300", str(300 - positives), str(positives)]
    assert "leakage between images of one patient is not checked" in text
    assert "2 rows left out" in text
