"""Who has which lesion: the rows of a phantom's CSV, in the columns of SIIM-ISIC 2020.

Promises an exact share of malignant rows, and that age and site say a little about the label, much
the same for every seed. Called by `pipeline.phantom.write`.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

COLUMNS = (
    "image_name",
    "patient_id",
    "sex",
    "age_approx",
    "anatom_site_general_challenge",
    "diagnosis",
    "benign_malignant",
    "target",
)

# Site: (share of the images, log-odds of malignancy). The shares are about those of SIIM-ISIC 2020.
SITES = {
    "torso": (0.46, -0.15),
    "lower extremity": (0.24, -0.5),
    "upper extremity": (0.17, 0.3),
    "head/neck": (0.09, 1.0),
    "palms/soles": (0.025, -0.2),
    "oral/genital": (0.015, 0.4),
}
BENIGN_DIAGNOSES = {
    "unknown": 0.80,
    "nevus": 0.175,
    "seborrheic keratosis": 0.015,
    "lentigo NOS": 0.005,
    "lichenoid keratosis": 0.005,
}
AGE_MEAN, AGE_SPREAD = 49.0, 15.0  # years
AGE_LOG_ODDS = 0.028  # a year
MALE_LOG_ODDS = 0.2
MISSING_SHARE = 0.02  # of each of sex, age and site
COUNT_SPREAD = 0.85  # sigma of the log-normal of images a patient: median 0.7 of the mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One image; an empty text and an age of None are missing."""

    number: int  # the image's place in the table, and its seed
    patient: int
    image_name: str
    patient_id: str
    sex: str
    age: int | None
    site: str
    diagnosis: str
    malignant: bool


def make_rows(
    *, patients: int, seed: int, positive_share: float, images_per_patient: float
) -> list[Row]:
    """The rows in order of `image_name`; `round(positive_share * images)` of them are malignant."""
    rng = np.random.default_rng([seed, 0])
    counts = count_images(rng, patients, images_per_patient)
    patient = np.repeat(np.arange(patients), counts)
    images = len(patient)

    male = rng.random(patients)[patient] < 0.52
    age_at_first = rng.normal(AGE_MEAN, AGE_SPREAD, patients)[patient]
    age = np.clip(age_at_first + rng.choice([0, 0, 0, 5], images), 10, 90)
    age = (5 * np.round(age / 5)).astype(int)
    shares = np.array([share for share, _ in SITES.values()])
    site = rng.choice(len(SITES), images, p=shares / shares.sum())
    site_log_odds = np.array([log_odds for _, log_odds in SITES.values()])

    risk = site_log_odds[site] + AGE_LOG_ODDS * (age - AGE_MEAN) + MALE_LOG_ODDS * male
    malignant = choose_malignant(rng, risk, round(positive_share * images))
    benign_diagnosis = rng.choice(list(BENIGN_DIAGNOSES), images, p=list(BENIGN_DIAGNOSES.values()))
    missing = rng.random((3, images)) < MISSING_SHARE
    image_names = draw_ids(rng, "ISIC", images)
    patient_ids = draw_ids(rng, "IP", patients)
    site_names = list(SITES)
    return [
        Row(
            number=i,
            patient=int(patient[i]),
            image_name=image_names[i],
            patient_id=patient_ids[patient[i]],
            sex="" if missing[0, i] else "male" if male[i] else "female",
            age=None if missing[1, i] else int(age[i]),
            site="" if missing[2, i] else site_names[site[i]],
            diagnosis="melanoma" if malignant[i] else str(benign_diagnosis[i]),
            malignant=bool(malignant[i]),
        )
        for i in np.argsort(image_names)
    ]


def count_images(
    rng: np.random.Generator, patients: int, images_per_patient: float
) -> NDArray[np.int64]:
    """Int64 [patients], each at least 1: log-normal, one draw from each of `patients` quantiles.

    Strata keep the total near `patients * images_per_patient` although the tail is long.
    """
    centre = np.log(images_per_patient) - COUNT_SPREAD**2 / 2
    quantiles = (rng.permutation(patients) + rng.random(patients)) / patients
    normal = NormalDist(centre, COUNT_SPREAD)
    counts = np.exp([normal.inv_cdf(min(max(q, 1e-6), 1 - 1e-6)) for q in quantiles])
    return np.clip(np.rint(counts), 1, max(1, round(5 * images_per_patient))).astype(np.int64)


def choose_malignant(
    rng: np.random.Generator, risk: NDArray[np.float64], positives: int
) -> NDArray[np.bool_]:
    """Bool [N], exactly `positives` of them true, from float64 [N] log-odds up to a constant.

    Systematic sampling along the order of risk: as many positives in each stretch of risk as their
    odds say, so chance hardly changes from seed to seed how much the metadata tells.
    """
    chances = chances_summing_to(positives, risk)
    order = np.lexsort((rng.random(len(risk)), risk))
    rungs = np.cumsum(chances[order])
    rungs[-1:] = positives  # exactly, where the sum was rounded
    ladder = np.floor(rungs + rng.random())
    malignant = np.zeros(len(risk), dtype=bool)
    malignant[order] = np.diff(ladder, prepend=0.0) > 0
    return malignant


def chances_summing_to(total: int, risk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64 [N] in (0, 1): logistic of `risk` plus the constant that makes the sum `total`."""
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        chances = 1 / (1 + np.exp(-(risk + middle)))
        low, high = (middle, high) if chances.sum() < total else (low, middle)
    return chances


def draw_ids(rng: np.random.Generator, prefix: str, count: int) -> list[str]:
    """`count` different ids such as ISIC_0123456."""
    return [f"{prefix}_{n:07d}" for n in rng.choice(10_000_000, count, replace=False)]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes `COLUMNS`; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            age = "" if row.age is None else f"{row.age}.0"
            label = "malignant" if row.malignant else "benign"
            person = (row.patient_id, row.sex, age, row.site)
            writer.writerow([row.image_name, *person, row.diagnosis, label, int(row.malignant)])
    partial.replace(path)
