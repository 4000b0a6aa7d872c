"""How far the exported way of an original is from the records' way, on real dermoscopy."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.images.render import RenderSpec, render
from pipeline.stream.render import decode
from trainer.exported.pixels import decode_squares


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [128, 256])
def test_an_original_comes_close_to_what_its_record_is(real_data, size_px):
    """In decibels, of records of 256 px.

    Most of the difference is the record's own JPEG; the rest is its decode at an eighth, a quarter
    or a half and linear interpolation, where the graph averages over areas of the whole.
    """
    paths = sorted((real_data / "uda1" / "jpeg").glob("*.jpg"))
    jpegs = [path.read_bytes() for path in paths]
    records = [decode(render(jpeg, [256], RenderSpec()).images[256], size_px) for jpeg in jpegs]
    served = decode_squares(tf.constant(jpegs), size_px).numpy()
    errors = ((served.astype(float) - np.stack(records)) ** 2).mean(axis=(1, 2, 3))
    decibels = 10 * np.log10(255**2 / errors)
    assert np.median(decibels) > 40
    assert np.percentile(decibels, 1) > 36
