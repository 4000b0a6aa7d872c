"""Raw metadata columns to a model's vector, in the graph: what `MetadataEncoder.encode` does.

`trainer.exported.graph` makes one of a fold's encoder. A missing category is "", a missing number
NaN; whatever the encoder did not meet in training is unknown to the graph as well.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from pipeline.errors import SettingsError
from pipeline.metadata import MISSING, UNKNOWN, Category, MetadataEncoder, Number


class Columns(tf.Module):
    """Tables and constants of an encoder; `names` gives an input of the graph a column."""

    def __init__(self, encoder: MetadataEncoder) -> None:
        super().__init__()
        self._categories, self._numbers = encoder.categories, encoder.numbers
        parts: list[Category | Number] = [*encoder.categories, *encoder.numbers]
        self.names = _input_names([part.column for part in parts])
        self._slots = {category.column: _slots(category) for category in encoder.categories}

    def specs(self) -> dict[str, tf.TensorSpec]:
        """By input: string [N] of a category, float32 [N] of a number."""
        dtypes = {category.column: tf.string for category in self._categories}
        return {
            name: tf.TensorSpec([None], dtypes.get(column, tf.float32), name=name)
            for column, name in self.names.items()
        }

    def describe(self) -> list[dict[str, Any]]:
        """Plain JSON: of each column its input, and the values that the model knows."""
        categories = [
            {"column": part.column, "input": self.names[part.column], "known": [*part.vocabulary]}
            for part in self._categories
        ]
        numbers = [
            {"column": part.column, "input": self.names[part.column], "mean": part.mean}
            for part in self._numbers
        ]
        return [*categories, *numbers]

    def encode(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """As `specs` says -> float32 [N, D]."""
        categories = [
            tf.one_hot(
                self._slots[category.column].lookup(inputs[self.names[category.column]]),
                len(category.names),
            )
            for category in self._categories
        ]
        numbers = [
            _standardised(inputs[self.names[number.column]], number) for number in self._numbers
        ]
        return tf.concat([*categories, *numbers], axis=1)


def _slots(category: Category) -> tf.lookup.StaticHashTable:
    values = [MISSING, *range(2, 2 + len(category.vocabulary))]
    known = tf.lookup.KeyValueTensorInitializer(
        tf.constant(["", *category.vocabulary]), tf.constant(values, tf.int64)
    )
    return tf.lookup.StaticHashTable(known, default_value=UNKNOWN)


def _standardised(values: tf.Tensor, number: Number) -> tf.Tensor:
    """float32 [N] -> float32 [N, 2]; in float64, as the encoder computes."""
    is_known = tf.math.is_finite(values)
    standardised = (tf.cast(values, tf.float64) - number.mean) / number.std
    known = tf.where(is_known, tf.cast(standardised, tf.float32), 0.0)
    return tf.stack([known, tf.cast(~is_known, tf.float32)], axis=1)


def _input_names(columns: list[str]) -> dict[str, str]:
    """A name a column that a signature takes: an identifier that begins with a letter."""
    names = {}
    for column in columns:
        name = re.sub(r"\W", "_", column, flags=re.ASCII)
        is_plain = name[0].isalpha() and not keyword.iskeyword(name)
        names[column] = name if is_plain else f"column_{name}"
    taken = ["image", *names.values()]
    for column, name in names.items():
        if taken.count(name) > 1:
            raise SettingsError(
                f"export: columns must differ in their letters, digits and underscores, and be "
                f"none named image, got another {name!r} for {column!r}; make records with the "
                "column renamed"
            )
    return names
