"""The last step of `make demo`: holds its ensemble against what the README promises.

python tests/e2e/check_demo.py data/demo
"""

import sys
from pathlib import Path

from pipeline.predictions import read_predictions
from pipeline.records.manifest import read_manifest
from trainer.metrics import evaluate

FOLDS = ("fold0", "fold1")
LEAST_AUC = 0.75


def main(folder: Path) -> int:
    """0 when every row of both folds was scored once, and well enough."""
    manifest = read_manifest(str(folder / "records" / "96"))
    predictions = read_predictions(str(folder / "ensemble.parquet"))
    rows, wanted = len(predictions.frame), manifest.examples_in(FOLDS)
    auc = evaluate(predictions)["auc"]
    print(f"demo: {rows} rows of {len(FOLDS)} folds, out-of-fold AUC {auc:.3f}")
    if rows != wanted or set(predictions.frame["part"]) != set(FOLDS):
        print(f"demo: rows must be the {wanted} of {', '.join(FOLDS)}, got {rows}", file=sys.stderr)
        return 1
    if not auc >= LEAST_AUC:
        print(f"demo: AUC must be {LEAST_AUC} or more, got {auc:.3f}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
