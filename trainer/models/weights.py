"""Weights of a backbone from a file, whichever Keras and whichever backend wrote it.

`trainer.models.build` calls `load_weights`. A file may be Keras 2's HDF5 (weights or whole model),
Keras 3's and tf_keras' `.weights.h5`, or their `.keras`. Names differ among all of these, but
layers of one kind come in the same order with the same shapes. So a file is read as lists of arrays
by kind of layer, and nothing but arrays is read: no config, no pickled object, no linked file.
"""

from __future__ import annotations

import collections
import io
import re
import zipfile
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from pipeline import storage
from trainer.models.backbones import IMAGENET_STD, set_normalization
from trainer.models.published import PUBLISHED, WeightsError, published_path

Arrays = list[npt.NDArray[Any]]  # of one layer
_MEMBER = "model.weights.h5"  # of a .keras file, which is a zip archive


def load_weights(backbone: Any, weights: str, *, name: str, backend: str) -> None:
    """Assigns a published set or a file of weights to a Keras model from image to features.

    What a file says of the input's normalisation is taken over; without, it stays ImageNet's. A
    classifier in the file is left out.

    Raises:
      WeightsError: naming the file and what is wrong with it.
    """
    is_published = (backend, weights) in PUBLISHED
    path = published_path(name, backend, weights) if is_published else weights
    where = f"model: weights {path}"
    found = by_kind(read_arrays(path, where))
    layers = [layer for layer in backbone.layers if layer.weights]
    wanted = collections.defaultdict(list)
    for layer in layers:
        wanted[_kind([tuple(weight.shape) for weight in layer.weights])].append(layer)
    normalizations = wanted.pop("normalization", [])
    for kind, these in wanted.items():
        # Metadata's BatchNorms come after the backbone's; its convolutions are all there are.
        there = found[kind][: len(these)] if kind == "batch_norm" else found[kind]
        if len(there) != len(these):
            raise WeightsError(
                f"{where} must be those of {name}, with {len(these)} layers of kind {kind}, got "
                f"{len(there)}; set model.backbone to the network that the file was made from"
            )
        for layer, arrays in zip(these, there, strict=True):
            _check(layer, arrays, f"{where} must be those of {name}")
    for kind, these in wanted.items():
        for layer, arrays in zip(these, found[kind], strict=False):
            for weight, array in zip(layer.weights, arrays, strict=True):
                weight.assign(array)
    if normalizations and found["normalization"]:
        mean, variance = found["normalization"][0][:2]
        set_normalization(normalizations, mean, _true_variance(variance))


def read_arrays(path: str, where: str) -> list[Arrays]:
    """The arrays of each layer in a file; layers of one kind in the order of the model.

    Raises:
      WeightsError: it is missing, cut off, or of another format.
    """
    try:
        with storage.open_read(path) as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    content: Any = io.BytesIO(archive.read(_MEMBER))
            else:
                file.seek(0)
                content = file
            with h5py.File(content, "r") as root:
                top = root.get("model_weights", root)
                is_keras_2 = _names(top.attrs, "layer_names") is not None
                layers = _read_keras_2(top) if is_keras_2 else _read_keras_3(root)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{where} must be a file, got none; mend the path in model.weights"
        ) from error
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{where} must be an HDF5 or .keras file of weights, got {type(error).__name__}: "
            f"{error}; it is cut off or of another format: copy or save it again"
        ) from error
    if not layers:
        raise WeightsError(f"{where} must hold the weights of layers, got none; save it again")
    return layers


def by_kind(layers: list[Arrays]) -> dict[str, list[Arrays]]:
    """`layers` in lists by kind, their order kept."""
    kinds = collections.defaultdict(list)
    for arrays in layers:
        kinds[_kind([array.shape for array in arrays])].append(arrays)
    return kinds


def _kind(shapes: list[tuple[int, ...]]) -> str:
    """Of a layer by the shapes of its arrays: names differ among the formats."""
    first = shapes[0]
    if len(first) == 4:
        return "depthwise_conv" if first[3] == 1 else "conv"
    if len(first) == 2:
        return "dense"
    if len(shapes) == 4 and shapes == [first] * 4 and len(first) == 1:
        return "batch_norm"
    if first == (3,) and len(shapes) in (2, 3):
        return "normalization"
    return "other"


def _read_keras_2(top: Any) -> list[Arrays]:
    """Groups by layer, their order and that of their arrays in attributes.

    A model within a model is one group, with what is trainable before what is not: told apart by
    the names of arrays, `block1a_bn/gamma:0`.
    """
    datasets = _datasets(top)
    layers: dict[tuple[str, str], Arrays] = {}
    for layer in _names(top.attrs, "layer_names") or []:
        for name in _names(top[layer].attrs, "weight_names") or []:
            key = (layer, name.rpartition("/")[0])
            layers.setdefault(key, []).append(_read(datasets[f"{layer}/{name}"]))
    return list(layers.values())


def _read_keras_3(root: Any) -> list[Arrays]:
    """Groups `layers/conv2d_3/vars` of arrays `0`, `1`, …; a model within comes first."""
    layers: dict[str, dict[int, Any]] = collections.defaultdict(dict)
    for name, dataset in _datasets(root).items():
        group, _, place = name.rpartition("/")
        if group.endswith("/vars") and not name.startswith("optimizer/"):
            layers[group][int(place)] = dataset
    ordered = sorted(layers, key=lambda group: (-group.count("/"), _natural(group)))
    return [[_read(layers[group][place]) for place in sorted(layers[group])] for group in ordered]


def _datasets(group: Any) -> dict[str, Any]:
    """Every array of a file by its path; links, which may lead out of it, are not followed."""
    datasets = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item

    group.visititems(add)
    return datasets


def _read(dataset: Any) -> npt.NDArray[Any]:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in another file")
    return np.asarray(dataset[()])


def _names(attrs: Any, key: str) -> list[str] | None:
    """Text of an attribute, which Keras 2 cuts into `key0`, `key1`, … where it is long."""
    keys = [key] if key in attrs else []
    while f"{key}{len(keys)}" in attrs:
        keys.append(f"{key}{len(keys)}")
    names = [name for part in keys for name in attrs[part]]
    return [n.decode() if isinstance(n, bytes) else n for n in names] if keys else None


def _natural(text: str) -> list[tuple[str, int]]:
    """Sorts `conv2d`, `conv2d_2`, `conv2d_10` in this order."""
    parts = [re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in text.split("/")]
    return [(part[1], int(part[2] or 0)) for part in parts if part]


def _check(layer: Any, arrays: Arrays, must: str) -> None:
    shapes, there = [tuple(w.shape) for w in layer.weights], [a.shape for a in arrays]
    if shapes != there:
        raise WeightsError(
            f"{must}, with {layer.name} of shape {shapes[0]}, got {there[0]}; set model.backbone "
            "to the network that the file was made from"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise WeightsError(f"{must}, all finite, got NaN or infinity in {layer.name}")


def _true_variance(variance: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Keras' published files hold ImageNet's deviation where its variance belongs.

    Keras mends that by a further layer, which it has with `weights="imagenet"` only
    (tensorflow issue 49930).
    """
    return variance**2 if np.allclose(variance, IMAGENET_STD, atol=1e-4) else variance
