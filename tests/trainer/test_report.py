"""`trainer.report`: the figures behind the tables, and their text."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from predictions_factory import BINARY, MULTICLASS, MULTILABEL, toy_predictions
from trainer.report import Figures, fold_figures, fold_table, score_table


def test_folds_have_an_auc_each_and_all_rows_a_pooled_one():
    predictions = toy_predictions(BINARY, rows=60)
    frame, figures = predictions.frame, fold_figures(predictions)
    each = [
        roc_auc_score(rows["target"], rows["prob_malignant"]) for _, rows in frame.groupby("fold")
    ]
    assert list(figures.by_fold) == [0, 1, 2]
    np.testing.assert_allclose(list(figures.by_fold.values()), each)
    assert figures.mean == pytest.approx(np.mean(each))
    assert figures.std == pytest.approx(np.std(each, ddof=1))
    pooled = roc_auc_score(frame["target"], frame["prob_malignant"])
    assert figures.pooled == pytest.approx(pooled)


@pytest.mark.parametrize(
    ("label", "positives"), [(BINARY, 30), (MULTICLASS, 40), (MULTILABEL, 40)]
)  # odd; 1 or 2 of 0, 1, 2; odd or a multiple of 3
def test_positives_are_rows_of_a_positive_class(label, positives):
    figures = fold_figures(toy_predictions(label, rows=60))
    assert (figures.rows, figures.positives) == (60, positives)


def test_a_soft_target_is_positive_from_one_half_on_as_for_the_auc():
    whole = toy_predictions(MULTILABEL, rows=4)
    soft = np.array([[0.4, 0.0], [0.5, 0.1], [0.9, -1.0], [-1.0, -1.0]], np.float32)
    frame = whole.frame.assign(target=list(soft))
    figures = fold_figures(dataclasses.replace(whole, frame=frame))
    assert (figures.rows, figures.positives) == (3, 2)
    probs = whole.frame["prob_mass"][:3]
    assert figures.pooled == roc_auc_score([0, 1, 1], probs)


def test_given_parts_have_one_line_and_are_no_fold():
    whole = toy_predictions(BINARY, rows=20)
    frame = whole.frame.assign(fold=-1, part="val")
    text = fold_table(fold_figures(dataclasses.replace(whole, frame=frame)))
    assert text.startswith("val        AUC 0.")
    assert "20 rows, 10 positive" in text
    assert "fold" not in text


def test_a_fold_without_an_auc_is_left_out_of_the_mean_and_shown():
    nan = float("nan")
    aucs = {0: 0.8, 1: nan, 2: 0.6}
    figures = Figures(by_fold=aucs, pooled=0.7, pooled_precision=nan, rows=9, positives=2)
    assert figures.mean == pytest.approx(0.7)
    text = fold_table(figures)
    assert "fold   1   AUC n/a" in text
    assert "0.7000 ± 0.1414" in text


def test_what_was_selected_on_its_own_rows_says_so():
    whole = toy_predictions(BINARY, rows=30)
    figures = fold_figures(dataclasses.replace(whole, run={"selected_on": ["fold0", "fold1"]}))
    assert fold_table(figures).splitlines()[-1].startswith("selected on fold0, fold1: ")
    assert "runs/a: selected on fold0, fold1" in score_table({"runs/a": figures})
    assert "selected" not in fold_table(fold_figures(whole))


def test_each_fold_has_its_average_precision_and_they_a_mean():
    predictions = toy_predictions(BINARY, rows=60)
    each = [
        average_precision_score(rows["target"], rows["prob_malignant"])
        for _, rows in predictions.frame.groupby("fold")
    ]
    text = fold_table(fold_figures(predictions))
    for precision in each:
        assert f"AP {precision:.4f}" in text
    assert f"AP {np.mean(each):.4f} ± {np.std(each, ddof=1):.4f}   over folds" in text


def test_every_member_has_a_line_of_the_table():
    figures = Figures(by_fold={0: 0.8}, pooled=0.8, pooled_precision=0.5, rows=9, positives=2)
    head, *lines = score_table({"runs/a": figures, "mean of 2": figures}).splitlines()
    assert "AUC pooled" in head
    assert [line.split("  ")[0] for line in lines] == ["runs/a", "mean of 2"]
    assert {len(line) for line in lines} == {len(head)}
