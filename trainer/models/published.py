"""Published ImageNet weights of EfficientNet: which file, where it is, what it must hash to.

`trainer.models.weights` asks for a path. A file is looked for in Keras' own folder, then fetched.
Digests are those that Keras 3.15 and efficientnet 1.1.1 publish in their sources. Each set loads
into either backend and either Keras; all expect RGB less ImageNet's mean, over its deviation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from pipeline.errors import DataError


class WeightsError(DataError):
    """Weights could not be had, or are not what was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """One set of files, an EfficientNet each from B0 on, without their classifiers."""

    folder: str  # address
    name: str  # of a file, of `{variant}`
    digests: tuple[str, ...]  # hexadecimal; MD5 (32 digits) or SHA-256 (64)


_NOISY_STUDENT = Published(
    folder="https://github.com/qubvel/efficientnet/releases/download/v0.0.1/",
    name="efficientnet-b{variant}_noisy-student_notop.h5",
    digests=(
        "a5b48ae7547fc990c7e4f3951230290d",
        "4d35baa41ca36f175506a33918f7e334",
        "e496e531f41242598288ff3a4b4199f9",
        "47da5b154de1372b557a65795d3e6135",
        "47c10902a4949eec589ab92fe1c35ed8",
        "4d53ef3544d4114e2d8080d6d777a74c",
        "71f96d7e15d9f891f3729b4f4e701f77",
        "e112b00c464fe929b821edbb35d1af55",
    ),
)
PUBLISHED: dict[tuple[str, str], Published] = {  # by backend and name of the weights
    ("keras", "imagenet"): Published(
        folder="https://storage.googleapis.com/keras-applications/",
        name="efficientnetb{variant}_notop.h5",
        digests=(
            "50bc09e76180e00e4465e1a485ddc09d",
            "74c4e6b3e1f6a1eea24c589628592432",
            "111f8e2ac8aa800a7a99e3239f7bfb39",
            "af6d107764bb5b1abb91932881670226",
            "ebc24e6d6c33eaebbd558eafbeedf1ba",
            "38879255a25d3c92d5e44e04ae6cec6f",
            "9ecce42647a20130c1f39a5d4cb75743",
            "cbcfe4450ddf6f3ad90b1b398090fe4a",
        ),
    ),
    ("efficientnet", "imagenet"): Published(  # trained with AutoAugment
        folder="https://github.com/Callidior/keras-applications/releases/download/efficientnet/",
        name="efficientnet-b{variant}_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5",
        digests=(
            "c1421ad80a9fc67c2cc4000f666aa50789ce39eedb4e06d531b0c593890ccff3",
            "75de265d03ac52fa74f2f510455ba64f9c7c5fd96dc923cd4bfefa3d680c4b68",
            "433b60584fafba1ea3de07443b74cfd32ce004a012020b07ef69e22ba8669333",
            "c5d42eb6cfae8567b418ad3845cfd63aa48b87f1bd5df8658a49375a9f3135c7",
            "7942c1407ff1feb34113995864970cd4d9d91ea64877e8d9c38b6c1e0767c411",
            "9d197bc2bfe29165c10a2af8c2ebc67507f5d70456f09e584c71b822941b1952",
            "1d0923bb038f2f8060faaf0a0449db4b96549a881747b7c7678724ac79f427ed",
            "60b56ff3a8daccc8d96edfd40b204c113e51748da657afd58034d54d3cec2bac",
        ),
    ),
    ("keras", "noisy-student"): _NOISY_STUDENT,  # Keras has none of its own
    ("efficientnet", "noisy-student"): _NOISY_STUDENT,
}


def published_path(backbone: str, backend: str, weights: str) -> str:
    """The file of `weights` ("imagenet", …) for `backbone`, fetched unless it is there already.

    Raises:
      WeightsError: it can't be fetched, or what is there is another file or cut off.
    """
    published, variant = PUBLISHED[backend, weights], int(backbone[-1])
    name, digest = published.name.format(variant=variant), published.digests[variant]
    path = cache_folder() / name
    kind = "MD5" if len(digest) == 32 else "SHA-256"
    about = f"model: weights {weights!r} of {backbone}"
    source = f"{published.folder}{name}"
    if not path.exists():
        path = _fetch(path, source, digest, about=about, kind=kind)
    if (found := _digest(path, kind)) != digest:
        raise WeightsError(
            f"{about}: {path} must have the {kind} {digest}, got {found}: it is cut off or another "
            f"file; delete it and fetch {source} again, or name it as model.weights if it is meant"
        )
    return str(path)


def cache_folder() -> Path:
    """Where Keras keeps what it fetched."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _fetch(path: Path, source: str, digest: str, *, about: str, kind: str) -> Path:
    import tensorflow as tf

    try:
        fetched = tf.keras.utils.get_file(
            path.name,
            source,
            file_hash=digest,
            cache_subdir=path.parent.name,
            cache_dir=str(path.parent.parent),
        )
    except Exception as error:  # a failed download is a bare Exception in Keras
        raise WeightsError(
            f"{about} must be at {path} or reachable, got: {error}; fetch {source} "
            f"({kind} {digest}) where there is a network and put it there, name a copy of it as "
            "model.weights, or drop model.weights"
        ) from error
    return Path(fetched)


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5" if kind == "MD5" else "sha256").hexdigest()
