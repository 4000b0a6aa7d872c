"""Further record sets that only train: which fit beside the first, and which of them would leak.

Without TensorFlow. `trainer.task` opens them before that starts, and refuses a fold whose
validation images an extra set holds as well: the figure would be of images that were trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import re
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from pipeline import storage
from pipeline.errors import DataError, SettingsError
from pipeline.records.features import Feature, Role, table_column, with_role
from pipeline.records.manifest import Manifest, read_rows
from pipeline.records.tfrecord import read_records
from pipeline.records.wire import read_example
from pipeline.stream.records import Portion, Records, open_records

_log = logging.getLogger(__name__)
_ROWS_NAMED = 8
_METADATA: tuple[Role, ...] = ("category", "number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtraConfig:
    """`[[extra]]`: a further record set to train on."""

    records: str  # a folder such as other/256
    weight: float = 1.0  # of each of its examples in the loss
    parts: tuple[str, ...] = ()  # none: all
    duplicates: str | None = None  # what find_duplicates says of the two sets: id_1, id_2
    digest: str | None = None  # of its records; a run's config has it, for it must not change

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight must be a number above 0, got {self.weight}")


def open_extras(
    configs: Sequence[ExtraConfig],
    main: Records,
    *,
    image_size_px: int | None = None,
    allow_failures: bool = False,
) -> tuple[Portion, ...]:
    """The sets of a recipe, in its order, their rows counted on from those of `main`.

    A set's row r is `first_row + r` in batches: `with_extra_rows` numbers its table alike. Raises
    SettingsError for a set that cannot train beside `main`, ManifestError for one that is not
    there.
    """
    portions = []
    first_row = _row_count(main) if configs else 0
    for config in configs:
        where = f"extra {config.records!r}"
        try:
            records = open_records(config.records, allow_failures=allow_failures)
        except (DataError, SettingsError) as error:
            raise type(error)(f"{where}: {error}") from error
        _refuse_unlike(records.manifest, main.manifest, image_size_px, where)
        parts = config.parts or records.manifest.part_names
        if not records.manifest.examples_in(parts):
            raise SettingsError(
                f"{where}: parts must hold an example, got none in {', '.join(parts)}"
            )
        portions.append(
            Portion(records=records, parts=parts, first_row=first_row, weight=config.weight)
        )
        first_row += _row_count(records)
    return tuple(portions)


def pin_extras(
    configs: Sequence[ExtraConfig], extras: Sequence[Portion]
) -> tuple[ExtraConfig, ...]:
    """The configs with the digest of what their sets hold.

    Raises SettingsError for a digest that was given and is another.
    """
    pinned = []
    for config, extra in zip(configs, extras, strict=True):
        manifest = extra.records.manifest
        shards = [shard.sha256 for shard in manifest.shards_of(extra.parts)]
        text = "\n".join((manifest.plan_digest, manifest.render_digest, *shards))
        digest = hashlib.sha256(text.encode()).hexdigest()
        if config.digest not in (None, digest):
            raise SettingsError(
                f"extra {config.records!r}: digest must be that of its records, {digest}, got "
                f"{config.digest}; name the records that it is of, or leave it out"
            )
        pinned.append(dataclasses.replace(config, digest=digest))
    return tuple(pinned)


def with_extra_rows(rows: pd.DataFrame, main: Records, extras: Sequence[Portion]) -> pd.DataFrame:
    """`read_rows` of the first set with the rows of the extra sets below, numbered on.

    Theirs have part `extra0`, `extra1`, … and fold -1, so that none is taken for a part of the
    first set. Of their metadata they keep what the first set has under the same name and role; the
    rest is missing.
    """
    features = main.manifest.features
    wanted = {(f.role, f.name) for role in _METADATA for f in with_role(features, role)}
    tables = [rows]
    for number, extra in enumerate(extras):
        table = read_rows(extra.records.folder)
        table = table[table["part"].isin(extra.parts)]
        shared = [
            table_column(f.name)
            for f in extra.records.manifest.features
            if (f.role, f.name) in wanted
        ]
        table = table[["row", "id", "group", "target", *shared]]
        tables.append(
            table.assign(row=table["row"] + extra.first_row, part=f"extra{number}", fold=-1)
        )
    return pd.concat(tables, ignore_index=True)[rows.columns] if extras else rows


def refuse_leaks(
    main: Records,
    extras: Sequence[Portion],
    configs: Sequence[ExtraConfig],
    unseen: Sequence[Collection[str]],
) -> None:
    """Raises SettingsError for a set that holds images of parts that must stay unseen.

    `unseen` are the validation parts of each fold, and what else is held out. Images are told by
    the digest of their source, where both sets have one, and by the pairs of the set's
    `duplicates`. Rows are named by number, never by id: that may name a patient. Every shard that
    is asked of is read once.
    """
    known = [_digests(main, parts) if _source(main.manifest) else set() for parts in unseen]
    for extra, config in zip(extras, configs, strict=True):
        rows_of = _rows_of(extra, set().union(*known))
        for parts, digests in zip(unseen, known, strict=True):
            same = {row for digest in digests for row in rows_of.get(digest, ())}
            paired = _paired_rows(main, parts, extra, config.duplicates)
            if not (same or paired):
                continue
            found = sorted(same | paired)
            named = ", ".join(map(str, found[:_ROWS_NAMED]))
            more = f" and {len(found) - _ROWS_NAMED} more" if len(found) > _ROWS_NAMED else ""
            raise SettingsError(
                f"extra {config.records!r}: no image must be one of the unseen parts "
                f"{', '.join(parts)}, got {len(found)} of {extra.examples} ({len(same)} with the "
                f"same source, {len(paired)} by duplicates): rows {named}{more} of the set; make "
                "its records with --drop of these, or choose other parts of it"
            )
        if not config.duplicates and not (_source(main.manifest) and _source_of(extra)):
            _log.warning(
                "extra %r: whether it holds images of unseen parts is not known, for there is no "
                "sha256 in the records; name a list of find_duplicates under duplicates",
                config.records,
            )


def _digests(records: Records, parts: Collection[str]) -> set[str]:
    """The SHA-256 of the sources of some parts."""
    return {digest for digest, _, _ in _read_digests(records, parts)}


def _rows_of(extra: Portion, digests: Collection[str]) -> dict[str, list[int]]:
    """Of the sources with these digests, the rows in the set."""
    rows: dict[str, list[int]] = {}
    if not digests or not _source_of(extra):
        return rows
    row_keys = [f.record_key for f in with_role(extra.records.manifest.features, "row")]
    for digest, place, data in _read_digests(extra.records, extra.parts):
        if digest in digests:
            row = int(read_example(data)[row_keys[0]][1][0]) if row_keys else place
            rows.setdefault(digest, []).append(row)
    return rows


def _read_digests(records: Records, parts: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
    """(digest, row if the records hold none, record) of each example of some parts."""
    source = _source(records.manifest)
    assert source is not None
    key = source.record_key.encode()
    # The 64 characters as a codec writes them. To parse each example whole takes twice as
    # long; it is done where the characters are not found exactly once.
    written = re.compile(b"\n" + re.escape(bytes([len(key)]) + key) + rb"\x12D\nB\n@([0-9a-f]{64})")
    there = {*records.paths_of(parts)}
    for shard, first_row in zip(records.manifest.shards, records.manifest.first_rows, strict=True):
        path = records.path(shard)
        if path not in there:
            continue
        with storage.open_read(path) as file:
            for row, (_, data) in enumerate(read_records(file, path), start=first_row):
                found = written.findall(data)
                if len(found) != 1:
                    found = read_example(data)[source.record_key][1]
                yield found[0].decode(), row, data


def _paired_rows(
    main: Records, validation: Collection[str], extra: Portion, path: str | None
) -> set[int]:
    """The set's rows that a list of duplicates pairs with an image of some validation parts."""
    if path is None:
        return set()
    where = f"extra {extra.records.folder!r}"
    try:
        with storage.open_read(path) as file:
            pairs = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise SettingsError(
            f"{where}: duplicates must be a file that find_duplicates wrote, got no {path}"
        ) from error
    if not {"id_1", "id_2"} <= {*pairs.columns}:
        raise SettingsError(
            f"{where}: columns of {path} must be id_1 and id_2, as find_duplicates writes them, "
            f"got {', '.join(map(str, pairs.columns))}"
        )
    rows = read_rows(main.folder, ["id", "part"])
    ids = set(rows["id"][rows["part"].isin(validation)])
    own = read_rows(extra.records.folder, ["row", "id", "part"])
    own = own[own["part"].isin(extra.parts)]
    # Either set may have been the first of the two that were compared.
    suspects = {*pairs["id_2"][pairs["id_1"].isin(ids)], *pairs["id_1"][pairs["id_2"].isin(ids)]}
    return set(own["row"][own["id"].isin(suspects)].tolist())


def _refuse_unlike(extra: Manifest, main: Manifest, image_size_px: int | None, where: str) -> None:
    if extra.label.kind != main.label.kind:
        raise SettingsError(
            f"{where}: label must be {main.label.kind} as in the records it is to extend, got "
            f"{extra.label.kind}"
        )
    if extra.label.classes != main.label.classes:
        raise SettingsError(
            f"{where}: classes must be {list(main.label.classes)}, in this order, as in the "
            f"records it is to extend, got {list(extra.label.classes)}; name them under [label] "
            "classes in its dataset spec"
        )
    if extra.size is None or not with_role(extra.features, "image"):
        raise SettingsError(f"{where}: the records must hold images, got none")
    needed = image_size_px or main.size
    if needed is not None and extra.size < needed:
        raise SettingsError(
            f"{where}: stored size must be {needed} px or more, got {extra.size}; "
            f"make its records of --sizes {needed}, or lower data.image_size_px"
        )


def _source(manifest: Manifest) -> Feature | None:
    return next((f for f in with_role(manifest.features, "source") if f.name == "sha256"), None)


def _source_of(extra: Portion) -> Feature | None:
    return _source(extra.records.manifest)


def _row_count(records: Records) -> int:
    """The first number that no row has; rows that failed have theirs as well."""
    return int(read_rows(records.folder, ["row"])["row"].max()) + 1
