"""`pipeline.metadata`: what is learnt from training rows, and what it makes of others."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metadata import MetadataEncoder

TRAIN = pd.DataFrame(
    {"sex": ["male", "female", "", "male"], "age": [40.0, 60.0, np.nan, 50.0], "flat": 3.0}
)


def fit(frame=TRAIN, categorical=("sex",), numeric=("age",)):
    return MetadataEncoder.fit(frame, categorical, numeric)


def test_a_known_value_a_missing_one_and_an_unseen_one_have_slots_of_their_own():
    encoder = fit(numeric=())
    assert encoder.names == ("sex is missing", "sex is unknown", "sex=female", "sex=male")
    encoded = encoder.encode(pd.DataFrame({"sex": ["male", "", None, "other", "female"]}))
    assert encoded.argmax(axis=1).tolist() == [3, 0, 0, 1, 2]
    np.testing.assert_array_equal(encoded.sum(axis=1), 1)


def test_a_number_is_standardised_by_the_training_rows():
    encoded = fit(categorical=()).encode(pd.DataFrame({"age": [50.0, 50 + np.sqrt(200 / 3)]}))
    np.testing.assert_allclose(encoded, [[0, 0], [1, 0]], atol=1e-6)


@pytest.mark.parametrize("missing", [np.nan, None, np.inf])
def test_a_missing_number_is_the_mean_with_its_bit_set(missing):
    encoded = fit(categorical=()).encode(pd.DataFrame({"age": pd.Series([missing], dtype=float)}))
    np.testing.assert_array_equal(encoded, [[0, 1]])


@pytest.mark.parametrize("value", [3.0, 0.1, 1e12])
def test_a_constant_column_is_zero_and_not_infinite(value):
    frame = pd.DataFrame({"flat": [value] * 7})
    np.testing.assert_array_equal(fit(frame, (), ("flat",)).encode(frame)[:, 0], 0)


def test_a_column_without_any_value_encodes():
    frame = pd.DataFrame({"age": [np.nan, np.nan]})
    np.testing.assert_array_equal(fit(frame, (), ("age",)).encode(frame), [[0, 1], [0, 1]])


def test_float32_dense_and_named_column_by_column():
    encoder = fit(numeric=("age", "flat"))
    encoded = encoder.encode(TRAIN)
    assert encoded.dtype == np.float32
    assert encoded.shape == (len(TRAIN), len(encoder.names))


def test_no_columns_give_a_table_of_width_zero():
    assert fit(categorical=(), numeric=()).encode(TRAIN).shape == (4, 0)


def test_a_column_that_the_records_lack_is_named():
    with pytest.raises(ValueError, match=r"none named site; make the records with them"):
        fit(categorical=("site",))


texts = st.sampled_from(["", "a", "b", "ü", "unknown"])
numbers = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))
tables = st.lists(st.tuples(texts, numbers), min_size=1, max_size=20)


@given(tables, st.randoms())
def test_the_order_of_rows_does_not_matter_to_the_last_bit(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = (
        MetadataEncoder.fit(pd.DataFrame(table, columns=["text", "number"]), ["text"], ["number"])
        for table in (rows, shuffled)
    )
    assert first == second


@given(tables, tables)
def test_every_row_encodes_to_finite_numbers_also_after_json(train, others):
    train, others = (pd.DataFrame(t, columns=["text", "number"]) for t in (train, others))
    encoder = MetadataEncoder.fit(train, ["text"], ["number"])
    encoded = encoder.encode(others)
    assert np.isfinite(encoded).all()
    seen = set(train["text"]) | {""}
    np.testing.assert_array_equal(encoded[:, 1], [text not in seen for text in others["text"]])
    again = MetadataEncoder.from_json(encoder.to_json())
    assert again == encoder
    np.testing.assert_array_equal(again.encode(others), encoded)
