"""The last step of `make demo`: holds its ensemble against what the README promises.

    python tests/e2e/check_demo.py data/demo

Every row of both folds must have been scored, and well; and neither metadata nor mean colour alone
may tell as much, or the phantoms would have nothing for a network to learn.
"""

import sys
from pathlib import Path

import numpy as np
import simplejpeg
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.metadata import MetadataEncoder
from pipeline.predictions import read_predictions
from pipeline.records.example import ExampleCodec
from pipeline.records.features import with_role
from pipeline.records.manifest import Manifest, read_manifest, read_rows
from pipeline.records.tfrecord import read_records
from trainer.metrics import evaluate, roc_auc

FOLDS = (0, 1)
LEAST_AUC = 0.75
REGRESSION_BAND = (0.55, 0.72)


def main(demo: Path) -> int:
    """0 when all that is promised holds."""
    folder = demo / "records" / "96"
    manifest, rows = read_manifest(str(folder)), read_rows(str(folder))
    predictions = read_predictions(str(demo / "ensemble.parquet"))
    names = [
        [f.name for f in with_role(manifest.features, role)] for role in ("category", "number")
    ]
    figures = {
        "ensemble": evaluate(predictions)["auc"],
        "metadata alone": regression_auc(MetadataEncoder.fit(rows, *names).encode(rows), rows),
        "mean colour alone": regression_auc(mean_colours(folder, manifest), rows),
    }
    for what, auc in figures.items():
        print(f"demo: out-of-fold AUC {auc:.3f}  {what}")
    wanted = set(rows.loc[rows["fold"].isin(FOLDS), "row"])
    least, most = REGRESSION_BAND
    page, members = (demo / "report.html").read_text(encoding="utf-8"), predictions.run["members"]
    promises = {
        "the ensemble must be of networks and baselines": (
            {"image", "fused", "logistic-metadata"} <= {Path(name).name for name in members}
        ),
        "the report must show the mistakes with Grad-CAM": 'alt="Grad-CAM of ISIC_' in page,
        f"rows must be the {len(wanted)} of folds {FOLDS}": (
            len(predictions.frame) == len(wanted) and set(predictions.frame["row"]) == wanted
        ),
        f"the ensemble's AUC must be {LEAST_AUC} or more": figures["ensemble"] >= LEAST_AUC,
        f"the regressions' AUC must be in {REGRESSION_BAND}": all(
            least <= auc <= most for what, auc in figures.items() if what != "ensemble"
        ),
    }
    for promise, holds in promises.items():
        print(f"demo: {'ok' if holds else 'NOT SO'}: {promise}")
    return 0 if all(promises.values()) else 1


def regression_auc(features, rows):
    """Pooled over the demo's folds, each scored by a regression fitted on all other folds."""
    target, fold = rows["target"].to_numpy(), rows["fold"].to_numpy()
    score = np.full(len(rows), np.nan)
    for k in FOLDS:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[fold != k], target[fold != k])
        score[fold == k] = model.decision_function(features[fold == k])
    scored = np.isin(fold, FOLDS)
    return roc_auc(target[scored] == 1, score[scored])


def mean_colours(folder: Path, manifest: Manifest):
    """float64 [rows, 3]: the mean RGB of each record's image, in order of row."""
    codec, means = ExampleCodec(manifest.features), {}
    for shard in manifest.shards:
        with (folder / shard.file).open("rb") as file:
            for _, data in read_records(file, shard.file):
                values = codec.decode(data)
                means[values["row"]] = simplejpeg.decode_jpeg(values["image"]).mean(axis=(0, 1))
    return np.array([means[row] for row in sorted(means)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
