"""`pipeline.predictions`: the file, its checks, and the one score of a row."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SettingsError
from pipeline.predictions import (
    PredictionsError,
    concatenate,
    read_predictions,
    scores,
    write_predictions,
)
from pipeline.records.label import LabelInfo
from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, MULTILABEL], ids=lambda label: label.kind)
def test_a_file_gives_back_what_was_written(tmp_path, label):
    written = toy_predictions(label)
    write_predictions(str(tmp_path / "predictions.parquet"), written)
    read = read_predictions(str(tmp_path))
    pd.testing.assert_frame_equal(read.frame, written.frame)
    assert (read.label, read.run) == (label, {"fold": 0})
    np.testing.assert_array_equal(read.targets, written.targets)


def test_columns_and_types_are_as_documented(tmp_path):
    write_predictions(str(tmp_path / "p.parquet"), toy_predictions())
    schema = pq.read_schema(tmp_path / "p.parquet")
    assert {field.name: str(field.type).removeprefix("large_") for field in schema} == {
        "row": "int64", "id": "string", "group": "string", "part": "string", "fold": "int64",
        "target": "int64", "logit_malignant": "float", "prob_malignant": "float",
    }  # fmt: skip
    about = json.loads(schema.metadata[b"foldstream"])
    assert about["label"]["classes"] == ["benign", "malignant"]


def test_a_multilabel_target_is_a_list(tmp_path):
    write_predictions(str(tmp_path / "p.parquet"), toy_predictions(MULTILABEL))
    assert "list" in str(pq.read_schema(tmp_path / "p.parquet").field("target").type)
    assert read_predictions(str(tmp_path / "p.parquet")).targets.shape == (12, 2)


def test_folds_concatenate_in_order_of_row():
    whole = toy_predictions()
    parts = [
        dataclasses.replace(whole, frame=whole.frame[whole.frame["fold"] == fold])
        for fold in (2, 0, 1)
    ]
    pd.testing.assert_frame_equal(concatenate(parts, {}).frame, whole.frame)


def edited(**columns):
    whole = toy_predictions()
    return dataclasses.replace(whole, frame=whole.frame.assign(**columns))


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (edited(id="ISIC_0000000"), r"id must be unique, got 11 repeated \(first at row 1\)"),
        (edited(row=5), "row must be unique, got 11 repeated"),
        (edited(prob_malignant=[0.5] * 11 + [np.nan]), r"finite, got 1 rows .*\(first row 11\)"),
        (edited(logit_malignant=np.inf), "finite, got 12 rows"),
    ],
)
def test_a_table_at_fault_is_not_written_and_ids_are_not_told(tmp_path, predictions, message):
    with pytest.raises(PredictionsError, match=message) as caught:
        write_predictions(str(tmp_path / "p.parquet"), predictions)
    assert "ISIC_" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_named(tmp_path):
    whole = toy_predictions()
    lacking = dataclasses.replace(whole, frame=whole.frame.drop(columns="prob_malignant"))
    with pytest.raises(PredictionsError, match="must include 'prob_malignant'"):
        write_predictions(str(tmp_path / "p.parquet"), lacking)


def test_a_missing_or_foreign_file_is_told_with_the_fix(tmp_path):
    with pytest.raises(PredictionsError, match="no such file; give a run folder"):
        read_predictions(str(tmp_path))
    with pytest.raises(SettingsError, match="no such file; give a run folder"):
        read_predictions(str(tmp_path / "none"))
    (tmp_path / "text.parquet").write_text("row,id")
    with pytest.raises(PredictionsError, match="not a Parquet file"):
        read_predictions(str(tmp_path / "text.parquet"))
    toy_predictions().frame.to_parquet(tmp_path / "bare.parquet")
    with pytest.raises(PredictionsError, match="schema_version must be 1, got None"):
        read_predictions(str(tmp_path / "bare.parquet"))


def test_the_score_is_the_sigmoid_or_the_sum_over_positive_classes():
    binary, multiclass = toy_predictions(BINARY), toy_predictions(MULTICLASS)
    np.testing.assert_allclose(scores(binary), binary.frame["prob_malignant"])
    expected = multiclass.frame["prob_mel"].astype(float) + multiclass.frame["prob_bcc"]
    np.testing.assert_allclose(scores(multiclass), expected)


@pytest.mark.parametrize("label", [MULTILABEL, LabelInfo(kind="multiclass", classes=("a", "b"))])
def test_a_label_without_one_score_is_refused(label):
    with pytest.raises(PredictionsError, match=r"name them under \[label\] positive"):
        scores(toy_predictions(label))
