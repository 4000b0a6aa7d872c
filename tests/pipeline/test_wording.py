"""`pipeline.wording`."""

import pytest

from pipeline.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (33126, "33,126 rows")]
)
def test_one_is_no_plural(number, text):
    assert counted(number, "row") == text
