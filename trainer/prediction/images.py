"""Images without records: a folder, or a table and its folder, prepared as the records were.

The manifest holds the spec and the settings of the rendering, so the very code of `make_records`
writes a record set of them, without Beam: resumed by shard, an image that gives no picture left out
and told of. `trainer.prediction.run` predicts that set's one part and then removes it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import cv2
import pandas as pd

from pipeline import storage
from pipeline.dataset.labels import TableError
from pipeline.dataset.plan import (
    DEFAULT_ROWS_PER_SHARD,
    Plan,
    PlanError,
    make_plan,
    write_plan,
)
from pipeline.dataset.sources.folders import list_folders
from pipeline.dataset.sources.text import read_text
from pipeline.dataset.spec import FOLDER_COLUMNS, DatasetSpec, FoldersSpec, read_spec
from pipeline.dataset.table import read_table
from pipeline.errors import DataError, SettingsError
from pipeline.images.render import RenderSpec
from pipeline.records.commit import commit_size, write_failed
from pipeline.records.done import SizeError, claim_size, render_digest, size_folder
from pipeline.records.features import stored_name, table_column
from pipeline.records.manifest import Manifest
from pipeline.records.write import Sources, write_shard
from pipeline.settings import from_tables
from pipeline.stream.records import Records

PART = "unlabelled"  # of all rows of a table without a label


_CLAIM = "prepared_of.txt"  # names the folder; whoever has it made the work folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """What is to be predicted: a folder of images, and the table whose columns name them."""

    folder: str
    csv: str | None = None  # None: every image under the folder, its path the id
    max_failures: float = 0.001  # the share of them that may give no picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """Images as records, and how many are not among them."""

    records: Records
    rows: int  # of the table
    failed: int

    @property
    def is_over_limit(self) -> bool:
        """Whether more failed than may."""
        return self.records.manifest.failures_over_limit


def prepare_images(
    images: Images, manifest: Manifest, columns: Collection[str], work: str
) -> Prepared:
    """Writes `work/SIZE` as the set of `manifest` was made; the same call again continues.

    `columns` are those that the models read. `work/failed.csv` tells of what gave no picture.

    Raises:
      SettingsError: the set was not made by `make_records`, there is no such folder, or no table
        where the models need one.
      DataError: the table is at fault, ids repeat, or no image can be read.
    """
    spec, render = _specs(images, manifest, columns, work)
    if not storage.is_folder(images.folder):
        raise SettingsError(f"--images must be a folder that is there, got {images.folder!r}")
    _claim(work, images.folder)
    if spec.table.csv == _listing(work):
        _write_listing(images, spec)
    plan, rows = make_plan(read_table(spec), spec, DEFAULT_ROWS_PER_SHARD)
    size = manifest.size
    _begin(work, plan, rows, size, render)
    if render_digest(render, size) != manifest.render_digest:
        print("other versions of the codecs than the records': pixels may differ in their last bit")
    cv2.setNumThreads(1)  # our threads are one a core
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for shard in range(len(plan.shards)):
            sources = Sources(images=images.folder)
            write_shard(work, sources, plan, shard, (size,), render, pool)
            if len(plan.shards) > 1:
                print(f"images: shard {shard + 1} of {len(plan.shards)} prepared", flush=True)
    storage.remove_leftovers(size_folder(work, size))  # of a process that was killed
    failed = write_failed(work, (size,), plan, rows)
    made = commit_size(work, size, plan, rows, render, images.max_failures)
    if failed == len(rows):
        storage.remove_tree(size_folder(work, size))  # mended files are to be read again
        raise DataError(
            f"{images.folder}: images must be read to be predicted, got none of {failed:,} that "
            f"could be; {storage.join(work, 'failed.csv')} says why"
        )
    records = Records(folder=size_folder(work, size), manifest=made)
    return Prepared(records=records, rows=len(rows), failed=failed)


def _specs(
    images: Images, manifest: Manifest, columns: Collection[str], work: str
) -> tuple[DatasetSpec, RenderSpec]:
    """The records' spec without its label and folds, over these images; and their rendering."""
    if not manifest.spec or not manifest.render or manifest.size is None:
        raise SettingsError(
            f"--images: records must be made by make_records from images, whose manifest says how "
            f"they are prepared, got {manifest.name!r}, which does not"
        )
    if columns and images.csv is None:
        raise SettingsError(
            f"--csv must be given with --images, for the models read {', '.join(columns)} beside "
            "the image"
        )
    theirs = from_tables(DatasetSpec, manifest.spec, "manifest")
    render = RenderSpec(**manifest.render)
    if images.csv is None:
        file = FOLDER_COLUMNS[0]
        tables = {
            "name": theirs.name,
            "table": {"csv": _listing(work), "id": theirs.table.id},
            "images": {"path": f"{{{file}}}"},
        }
        return from_tables(DatasetSpec, tables, "--images"), render
    table: dict[str, Any] = {"csv": images.csv, "id": theirs.table.id}
    table["missing"] = list(theirs.table.missing)
    if theirs.table.group in read_text(images.csv).columns:
        table["group"] = theirs.table.group
    read = {
        kind: [name for name in names if table_column(stored_name(name)) in columns]
        for kind, names in dataclasses.asdict(theirs.metadata).items()
    }
    paths = {"path": theirs.images.path} if theirs.images.path else {}
    tables = {"name": theirs.name, "table": table, "images": paths, "metadata": read}
    return read_spec(None, tables), render


def _listing(work: str) -> str:
    return storage.join(work, "images.csv")


def _write_listing(images: Images, spec: DatasetSpec) -> None:
    """The table of a folder without one: an image's id is its path without the ending."""
    frame, notes = list_folders(FoldersSpec(root=images.folder))
    file = frame[FOLDER_COLUMNS[0]]
    is_plain = spec.table.id == FOLDER_COLUMNS[0]  # of a set that was made of a folder tree
    ids = file if is_plain else file.map(lambda path: str(PurePosixPath(path).with_suffix("")))
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise TableError(
            f"{images.folder}: file names without their ending must not repeat, got "
            f"{len(repeated)} that do; rename them, or give --csv"
        )
    for note in notes:
        print(note)
    table = pd.DataFrame({spec.table.id: ids, FOLDER_COLUMNS[0]: file})
    text = table.to_csv(index=False, lineterminator="\n")
    storage.write_text(spec.table.csv, text)


def _claim(work: str, images: str) -> None:
    """Says whose images are prepared; what was prepared of another folder's is removed.

    Raises:
      SettingsError: the folder of work is somebody's own: it is removed at the end.
    """
    path, folder = storage.join(work, _CLAIM), storage.resolve(images)
    is_theirs = folder == storage.resolve(work) or storage.is_inside(images, work)
    if is_theirs or (storage.is_folder(work) and not storage.exists(path)):
        raise SettingsError(
            f"--output must leave {work} free, where images are prepared, got a folder that is "
            "there already; give another name, or move it away"
        )
    if not storage.write_new(path, folder) and storage.read_text(path) != folder:
        storage.remove_tree(work)
        storage.write_text(path, folder)


def _begin(work: str, plan: Plan, rows: pd.DataFrame, size: int | None, render: RenderSpec) -> None:
    """Claims the folder for a plan; what another one, or other codecs, left there is removed."""
    folder = storage.join(work, "plan")
    try:
        write_plan(folder, plan, rows)
        claim_size(work, size, render)
    except (PlanError, SizeError):
        storage.remove_tree(folder)
        storage.remove_tree(size_folder(work, size))
        write_plan(folder, plan, rows)
        claim_size(work, size, render)
