"""What a bucket of Google Cloud Storage may be called.

As https://cloud.google.com/storage/docs/buckets#naming asks. It imports nothing, so that a command
line is checked without Google's libraries.
"""

from __future__ import annotations

import re

_LONGEST = 63  # of a name, or of what its dots part

PATTERN = r"[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]"  # takes every name, and some with parts too long
RULE = (
    f"3 to {_LONGEST} characters (up to 222 with dots), a-z, 0-9, -, _ and ., the first and last a "
    "letter or a digit"
)


def is_bucket_name(name: str) -> bool:
    """Whether a bucket may have this name, by `RULE`."""
    return bool(re.fullmatch(PATTERN, name)) and max(map(len, name.split("."))) <= _LONGEST
