"""The report's curves and charts."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.report.figures import Column
from trainer.report.page.charts import Line, Mark, Span, span_chart, square_chart
from trainer.report.page.curves import precision_points, roc_points


def random_column(seed, *, distinct_scores=10**6, rows=400):
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < 0.2).astype(float)
    score = (rng.integers(distinct_scores, size=rows) / distinct_scores + target) / 2
    target[:5] = np.nan
    return Column(
        name="x", target=target, score=score, scaled=score, decisions={}, thresholds={}
    )  # fmt: skip


@pytest.mark.parametrize("distinct_scores", [4, 10**6], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(3))
def test_the_area_below_the_drawn_roc_is_the_auc(distinct_scores, seed):
    column = random_column(seed, distinct_scores=distinct_scores)
    points = np.array(roc_points(column))
    known = column.is_known
    expected = roc_auc_score(column.target[known], column.score[known])
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(expected, abs=2e-3)
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]


def test_the_drawn_precision_is_that_of_the_thresholds():
    column = random_column(0)
    points = np.array(precision_points(column))
    known = column.is_known
    expected = average_precision_score(column.target[known], column.score[known])
    steps = np.diff(points[:, 0], prepend=0) @ points[:, 1]
    assert steps == pytest.approx(expected, abs=0.02)  # of points a thousandth apart at most


def test_a_curve_holds_its_corners_alone():
    # 40,000 rows whose curve is a staircase of 200 positives.
    column = random_column(1, rows=40_000)
    assert len(roc_points(column)) < 2_100


def test_texts_of_charts_are_escaped():
    bad = "<i>"
    line = Line(points=((0.0, 0.0), (1.0, 1.0)), colour=0, title=bad)
    chart = square_chart([line], bad, bad, marks=[Mark(place=(0.9, 0.5), name=bad)])
    chart += span_chart([Span(name=bad, figure=0.5, low=0.4, high=0.6, text=bad)], at=0.5)
    assert bad not in chart
    assert chart.count("&lt;i&gt;") == 9


def test_a_figure_without_an_interval_is_a_dot_and_one_that_is_not_there_a_name():
    nan = float("nan")
    spans = [
        Span(name="a", figure=0.5, low=0.4, high=0.6, text=""),
        Span(name="b", figure=0.5, low=nan, high=nan, text=""),
        Span(name="c", figure=nan, low=nan, high=nan, text="n/a"),
    ]
    chart = span_chart(spans)
    assert chart.count("<circle") == 2
    assert chart.count("<line") == 1
    assert "n/a" in chart
    assert "nan" not in chart


def test_the_report_starts_without_tensorflow():
    code = "import sys, trainer.report.__main__; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
