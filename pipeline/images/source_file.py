"""Reads one source of a dataset, and nothing that is not under its images' root.

A path of the plan is text from a user's table. `pipeline.dataset.table` has refused those that
leave the root by their spelling; this refuses those that leave it by a symbolic link.
"""

from __future__ import annotations

import functools
import os

from pipeline import storage
from pipeline.images.image_error import ImageError


def read_source(root: str, path: str) -> bytes:
    """The bytes of `root/path`.

    Raises:
      ImageError: there is no such file, it can't be read, or it lies elsewhere. A row without its
        image never ends a job of many thousand; how many may fail is the job's to say.
    """
    full = storage.join(root, path)
    try:
        if not os.path.realpath(full, strict=True).startswith(_real_prefix(root)):
            raise ImageError("outside_root", "a symbolic link leads out of the images' root")
        return storage.read_bytes(full)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing", "there is no such file") from error
    except OSError as error:  # no permission, a loop of links, a disk that fails
        raise ImageError("unreadable", error.strerror or type(error).__name__) from error


@functools.lru_cache(maxsize=8)
def _real_prefix(root: str) -> str:
    return os.path.join(os.path.realpath(root), "")  # noqa: PTH118 (ends in a separator)
