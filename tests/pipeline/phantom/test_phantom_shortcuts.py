"""What must not give the label away: metadata, mean colour, skin, light, clutter.

A network that is to be shown learning must have something to learn that a regression cannot.
The bands were fixed before any network was trained on phantoms.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.phantom.picture import draw_picture
from pipeline.phantom.table import SITES, make_rows

BAND = (0.55, 0.72)
# Colour means do not depend on the size drawn; this one takes a fortieth of the time.
SIZES = ((128, 96), (96, 128))
FRAME_PX = 6


def make(patients, seed):
    return make_rows(patients=patients, seed=seed, positive_share=0.2, images_per_patient=8.0)


def out_of_fold_auc(features, rows):
    """Area under the ROC curve of a logistic regression; a patient is in one of 5 folds only."""
    labels = [row.malignant for row in rows]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(
        model,
        np.array(features, dtype=float),
        labels,
        groups=[row.patient for row in rows],
        cv=GroupKFold(5),
        method="predict_proba",
    )
    return roc_auc_score(labels, scores[:, 1])


def encode_metadata(row):
    sexes = [row.sex == sex for sex in ("male", "female", "")]
    sites = [row.site == site for site in (*SITES, "")]
    return [*sexes, *sites, row.age is None, row.age or 50]


def draw_colours(seed, rows):
    """Mean RGB of each whole picture, and of its four corners."""

    def draw(row):
        picture = draw_picture(
            seed=seed,
            number=row.number,
            patient=row.patient,
            malignant=row.malignant,
            sizes=SIZES,
        )
        corners = np.concatenate(
            [picture[y, x] for y in (0, -1) for x in (slice(FRAME_PX), slice(-FRAME_PX, None))]
        )
        return picture.mean(axis=(0, 1)), corners.mean(axis=0)

    with ThreadPoolExecutor(2) as pool:
        means, corners = zip(*pool.map(draw, rows), strict=True)
    return means, corners


@pytest.mark.parametrize(("patients", "seed"), [(120, 7), (120, 8), (120, 9), (250, 7)])
def test_metadata_alone_tells_a_little(patients, seed):
    rows = make(patients, seed)
    auc = out_of_fold_auc([encode_metadata(row) for row in rows], rows)
    assert BAND[0] < auc < BAND[1], auc


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "seed"), [(120, 7), (120, 8), (120, 9), (250, 7)])
def test_mean_colour_alone_tells_a_little_and_the_corners_nothing(patients, seed):
    rows = make(patients, seed)
    means, corners = draw_colours(seed, rows)
    auc = out_of_fold_auc(means, rows)
    assert BAND[0] < auc < BAND[1], auc
    assert out_of_fold_auc(corners, rows) < 0.57


def test_neither_age_nor_sex_nor_site_is_the_same_for_all_malignant():
    malignant = [row for row in make(120, 7) if row.malignant]
    assert len({row.site for row in malignant}) >= 5
    assert len({row.age for row in malignant}) >= 10
    assert {row.sex for row in malignant} >= {"male", "female"}
