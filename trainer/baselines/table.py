"""What `trainer.baselines` prints: a line a baseline, out-of-fold figures beside training's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.predictions import Predictions
from trainer.baselines.fold_run import Outcome
from trainer.intervals import intervals, scored_columns

_THRESHOLD = 0.5  # where a probability would be read as "yes" by whoever does not think of costs


def baseline_table(outcomes: Mapping[str, Outcome], *, draws: int, seed: int) -> str:
    """A line a baseline: AUC with its interval, AP, sensitivities, what 0.5 finds, training AUC."""
    width = max(len(name) for name in outcomes) + 2
    head = f"{'':{width}}{'AUC out of fold':36}{'AP':>7}{'sens@0.6':>10}{'sens@0.9':>10}"
    text = [head + f"{'found at 0.5':>16}{'training AUC':>14}"]
    for name, outcome in outcomes.items():
        of_run = intervals(outcome.predictions, draws=draws, seed=seed)
        figures = "".join(
            f"{_three(of_run[metric].figure):>{columns}}"
            for metric, columns in (("AP", 7), ("sens@0.6", 10), ("sens@0.9", 10))
        )
        text.append(
            f"{name:{width}}{of_run['AUC'].text():36}{figures}"
            f"{found_at_one_half(outcome.predictions):>16}"
            f"{_three(float(np.mean(outcome.training_aucs))):>14}"
        )
    return "\n".join(text)


def found_at_one_half(predictions: Predictions) -> str:
    """`12 of 353`: positives whose score is 0.5 or more; of all classes where no score is one."""
    columns = scored_columns(predictions)
    positives = sum(int((target == 1).sum()) for target, _ in columns)
    found = sum(int((score[target == 1] >= _THRESHOLD).sum()) for target, score in columns)
    return f"{found:,} of {positives:,}"


def _three(figure: float) -> str:
    return "n/a" if np.isnan(figure) else f"{figure:.3f}"
