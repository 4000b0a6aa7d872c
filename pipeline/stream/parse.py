"""Serialized examples → dense tensors, by the manifest's feature list, inside tf.data.

The reading half of `pipeline.records.example`; `pipeline.stream.source` calls it for each example.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from pipeline.records.features import Dtype, Feature

_TF_DTYPES: dict[Dtype, tf.DType] = {
    "int64": tf.int64,
    "float32": tf.float32,
    "string": tf.string,
    "bytes": tf.string,
}


def parse_spec(
    features: Iterable[Feature],
) -> dict[str, tf.io.FixedLenFeature | tf.io.FixedLenSequenceFeature]:
    """What `tf.io.parse_example` needs, by the record's own keys; other features are passed over.

    Fixed shapes have no default, so that an absent key is an error and never a silent zero. A free
    first length may be 0, which tf.io can only read as one that may be missing.
    """
    spec = {}
    for feature in features:
        dtype = _TF_DTYPES[feature.dtype]
        if feature.is_free:
            spec[feature.record_key] = tf.io.FixedLenSequenceFeature(
                feature.shape[1:], dtype, allow_missing=True
            )
        else:
            spec[feature.record_key] = tf.io.FixedLenFeature(feature.shape, dtype)
    return spec


def parse_example(serialized: tf.Tensor, features: Iterable[Feature]) -> dict[str, tf.Tensor]:
    """string [] → a tensor of each feature's dtype and shape, by name; images stay JPEG bytes."""
    features = tuple(features)
    parsed = tf.io.parse_single_example(serialized, parse_spec(features))
    return {feature.name: parsed[feature.record_key] for feature in features}
