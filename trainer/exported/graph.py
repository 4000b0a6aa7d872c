"""A SavedModel: JPEG bytes and raw metadata columns to logits, probabilities and a score.

`trainer.export` calls it. What is saved is one signature with its variables and tables, and nothing
of Keras or of this package: TensorFlow alone loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipeline.predictions import output_classes, positive_places
from pipeline.records.label import LabelInfo
from pipeline.stream.batches import to_float
from trainer.exported.columns import Columns
from trainer.exported.pixels import decode_squares

Tensors = dict[str, tf.Tensor]
Predict = Callable[..., Tensors]


def predict_function(
    model: Any, size_px: int, label: LabelInfo, columns: Columns | None = None
) -> Predict:
    """Of N examples: inputs by name -> outputs by name; the model's images are of `size_px`.

    In: `image`, string [N] of JPEG bytes, and an input a column (`Columns.specs`). Out: float32
    [N, L] `logits` and `probs`, string [N, L] `classes`, the name of each column of them, and where
    the label has one score, float32 [N] `score`: how positive, in [0, 1].
    """
    is_multiclass = label.kind == "multiclass"
    scored = positive_places(label) if is_multiclass else [0] if label.kind == "binary" else []

    def predict(**inputs: tf.Tensor) -> Tensors:
        features = {"image": to_float(decode_squares(inputs["image"], size_px))}
        if columns:
            features["metadata"] = columns.encode(inputs)
        logits = model(features, training=False)["target"]
        probs = tf.nn.softmax(logits) if is_multiclass else tf.sigmoid(logits)
        classes = tf.broadcast_to(tf.constant(output_classes(label)), tf.shape(logits))
        outputs = {"logits": logits, "probs": probs, "classes": classes}
        if scored:
            outputs["score"] = tf.reduce_sum(tf.gather(probs, scored, axis=1), axis=1)
        return outputs

    return predict


def save_model(
    folder: str, model: Any, size_px: int, label: LabelInfo, columns: Columns | None = None
) -> None:
    """Writes a SavedModel whose signature `serving_default` is the `predict_function`."""
    specs = {"image": tf.TensorSpec([None], tf.string, name="image")}
    if columns:
        specs |= columns.specs()
    predict = tf.function(predict_function(model, size_px, label, columns))
    # What the function reads, and not the model: Keras would save functions of its own with that.
    served = tf.Module()
    served.columns = columns
    served.weights = [
        weight if isinstance(weight, tf.Variable) else weight.value for weight in model.weights
    ]
    signature = predict.get_concrete_function(**specs)
    tf.saved_model.save(served, folder, signatures={"serving_default": signature})
