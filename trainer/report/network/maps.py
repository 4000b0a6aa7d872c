"""Maps from inside a network: Grad-CAM on the backbone's last one, and what chosen layers give.

Imported by `trainer.report.network.look` when one of them is asked for: it starts TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.settings import nearest

Floats = npt.NDArray[np.float32]
_BATCH = 16  # examples at once: a gradient holds every map on the way
_SHUT = -1e9  # a logit that adds nothing to a sum of exponentials


def grad_cams(
    model: Any,
    inputs: Mapping[str, Floats],
    classes: Sequence[Sequence[int]],
    signs: Sequence[float],
    layer: str | None = None,
) -> Floats:
    """float32 [N, h, w], 0 or more: where each image speaks for its classes, or against them.

    `classes` are the outputs that make up the score of each example: one, or of exclusive classes
    several, whose log odds are then explained. A sign of -1 asks what spoke against. Selvaraju et
    al. 2017 (arXiv 1610.02391, equations 1 and 2, and section 3.3 for the counterfactual): channels
    weighted by their mean gradient, added, what is negative left out. On the backbone's last map,
    or on that of `layer`.

    Raises:
      SettingsError: there is no such layer, or its output is no map of several places.
    """
    features = last_map(model) if layer is None else _map_of(model, layer, "--grad_cam_layer")
    both = tf.keras.Model(model.input, {"map": features, "logits": model.output["target"]})
    is_of = np.zeros((len(classes), model.output["target"].shape[-1]), np.float32)
    for place, of_example in enumerate(classes):
        is_of[place, list(of_example)] = 1
    asked = (is_of, np.asarray(signs, np.float32)[:, None])
    made = [
        _batch_of_cams(both, *(_part(values, start) for values in (inputs, *asked)))
        for start in range(0, len(classes), _BATCH)
    ]
    return np.concatenate(made)


def layer_maps(
    model: Any, inputs: Mapping[str, Floats], layers: Sequence[str]
) -> dict[str, Floats]:
    """By layer float32 [N, h, w, C].

    Raises:
      SettingsError: there is no such layer, or it gives no map of several places.
    """
    outputs = {name: _map_of(model, name, "--feature_maps") for name in layers}
    asked = tf.keras.Model(model.input, outputs)
    made = asked({name: tf.constant(values) for name, values in inputs.items()}, training=False)
    return {name: made[name].numpy() for name in layers}


def last_map(model: Any) -> Any:
    """What the head pools; of a backbone that ends flat, its last output with several places."""
    head = [layer.name for layer in model.layers].index("head_pool")
    maps = [layer.output for layer in model.layers[:head] if _is_map(layer.output)]
    pooled = model.layers[head].input
    return pooled if _is_map(pooled) else maps[-1]


def _map_of(model: Any, name: str, flag: str) -> Any:
    there = {
        layer.name: layer.output
        for layer in model.layers
        if _is_map(layer.output) and layer.name != "image"
    }
    if name not in there:
        raise SettingsError(
            f"{flag}: {name!r} must be a layer whose output is a map of several places; "
            f"{nearest(name, there)}"
        )
    return there[name]


def _batch_of_cams(both: Any, inputs: Mapping[str, Floats], is_of: Floats, signs: Floats) -> Floats:
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors["image"])  # a frozen network is recorded as well
        given = both(tensors, training=False)
        logits = given["logits"]
        inside, outside = (
            tf.reduce_logsumexp(tf.where(mask > 0, logits, _SHUT), axis=1)
            for mask in (is_of, 1 - is_of)
        )
        has_several = is_of.sum(axis=1) > 1
        score = inside - tf.where(has_several, outside, 0.0)
    slopes = tape.gradient(score, given["map"])
    weights = tf.reduce_mean(slopes, axis=[1, 2], keepdims=True) * signs[:, :, None, None]
    return tf.nn.relu(tf.reduce_sum(weights * given["map"], axis=3)).numpy()


def _part(values: Any, start: int) -> Any:
    if isinstance(values, Mapping):
        return {name: _part(of, start) for name, of in values.items()}
    return values[start : start + _BATCH]


def _is_map(output: Any) -> bool:
    shape = list(getattr(output, "shape", []))
    return len(shape) == 4 and shape[1] * shape[2] > 1
