"""The table of rows beside the manifest."""

import numpy as np
import pandas as pd

from pipeline.records.manifest import read_rows, write_rows


def rows_of(count):
    numbers = np.arange(count)
    return pd.DataFrame({"row": numbers, "id": [f"i{n}" for n in numbers], "target": numbers % 3})


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = rows_of(20_000)
    write_rows(str(tmp_path), rows)
    pd.testing.assert_frame_equal(read_rows(str(tmp_path)), rows)


def test_columns_can_be_read_alone(tmp_path):
    rows = rows_of(20)
    write_rows(str(tmp_path), rows)
    pd.testing.assert_frame_equal(read_rows(str(tmp_path), ["target"]), rows[["target"]])
