"""A folder tree as a table: one row an image, its class the path of its folder.

    ROOT/train/infected/covid/7.jpg   →   file train/infected/covid/7.jpg, class infected/covid,
                                          part train (with `parts = ["train", …]`)

Called by `pipeline.dataset.table`; the columns are `pipeline.dataset.spec.FOLDER_COLUMNS`. What is
passed over is counted and told, never silently left out.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

import pandas as pd

from pipeline import storage
from pipeline.dataset.labels import TableError
from pipeline.dataset.spec import FOLDER_COLUMNS, FoldersSpec
from pipeline.errors import SettingsError
from pipeline.settings import nearest

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".dcm", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)  # in small letters

_NO_IMAGES = "files are no images by their suffix, or hidden"
_LINKED = "linked folders lie elsewhere under the root"
_OTHER_PARTS = "images are in no folder of folders.parts"


def list_folders(spec: FoldersSpec) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table of a tree, in order of path, and a line for whatever was passed over.

    An image outside every class folder has the class "", which is unknown. SettingsError for a root
    that is not there; TableError for such a part, a link that leaves the root, or no image at all.
    """
    if not storage.is_folder(spec.root):
        raise SettingsError(f"{spec.root}: folders.root must be a folder, got none of that name")
    for part in spec.parts:
        if not storage.is_folder(storage.join(spec.root, part)):
            files = storage.list_sizes(spec.root)
            folders = [name for name in storage.list_names(spec.root) if name not in files]
            raise TableError(
                f"{spec.root}: folders.parts must be folders under the root, got {part!r}; "
                f"{nearest(part, folders)}"
            )
    passed_over: collections.Counter[str] = collections.Counter()
    lines = []
    walk = _walk_objects if storage.is_remote(spec.root) else _walk
    for path in sorted(walk(spec.root, passed_over)):
        *folders, _ = path.split("/")
        part = ""
        if spec.parts:
            if not folders or folders[0] not in spec.parts:
                passed_over[_OTHER_PARTS] += 1
                continue
            part, *folders = folders
        lines.append((path, "/".join(folders), part))
    if not lines:
        raise TableError(
            f"{spec.root}: the tree must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), "
            "got none"
        )
    notes = tuple(f"{count:,} {what}: passed over" for what, count in sorted(passed_over.items()))
    return pd.DataFrame(lines, columns=list(FOLDER_COLUMNS), dtype="str"), notes


def _walk_objects(root: str, passed_over: collections.Counter[str]) -> Iterator[str]:
    """`_walk` where there are no links, and one request lists a thousand files of all folders."""
    for path in storage.walk(root):
        *folders, name = path.split("/")
        if any(folder.startswith(".") for folder in folders):
            continue
        if name.startswith(".") or not _is_image(name):
            passed_over[_NO_IMAGES] += 1
        else:
            yield path


def _walk(folder_root: str, passed_over: collections.Counter[str]) -> Iterator[str]:
    """The images under a root, each by its path below it with `/`, in no order."""
    root = Path(folder_root)
    real_root = root.resolve()
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.name.startswith("."):
                    passed_over[_NO_IMAGES] += entry.is_file()
                    continue
                if entry.is_symlink():
                    _refuse_outside(root / path, real_root)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                elif entry.is_dir():  # its images are met where they lie
                    passed_over[_LINKED] += 1
                elif _is_image(entry.name):
                    yield path
                else:
                    passed_over[_NO_IMAGES] += 1


def _is_image(name: str) -> bool:
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def _refuse_outside(link: Path, real_root: Path) -> None:
    if not link.resolve().is_relative_to(real_root):
        raise TableError(
            f"{link}: a link must stay inside the root, got one to {link.resolve()}; copy what it "
            "points to"
        )
