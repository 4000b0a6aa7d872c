"""Reads one source of a dataset, and nothing that is not under its images' root.

A path of the plan is text from a user's table. `pipeline.dataset.table` has refused those that
leave the root by their spelling; this refuses those that leave it by a symbolic link.
"""

from __future__ import annotations

from pipeline import storage
from pipeline.images.image_error import ImageError


def read_source(root: str, path: str) -> bytes:
    """The bytes of `root/path`.

    Raises:
      ImageError: there is no such file, it can't be read, or it lies elsewhere. A row without its
        image never ends a job of many thousand; how many may fail is the job's to say.
      StorageError: the storage refuses or does not answer, which is no fault of the row.
    """
    full = storage.join(root, path)
    if not storage.is_inside(full, root):
        raise ImageError("outside_root", "a symbolic link leads out of the images' root")
    try:
        return storage.read_bytes(full)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing", "there is no such file") from error
    except OSError as error:  # no permission, a loop of links, a disk that fails
        raise ImageError("unreadable", error.strerror or type(error).__name__) from error
