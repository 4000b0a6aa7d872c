"""What a preflight is about: a recipe with the records that it would run on, or without any.

Read and checked without TensorFlow. Of records the manifest and the table of rows are read, no
shard. Without them a stand-in says what the step depends on: size, label, counts.
"""

from __future__ import annotations

import argparse
import dataclasses

import pandas as pd

from pipeline.command_line import add_set_flag
from pipeline.errors import SettingsError
from pipeline.records.features import Feature
from pipeline.records.manifest import LabelInfo, LabelKind, Manifest, PartInfo, ShardInfo, read_rows
from pipeline.stream.augment.ops import Op
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.extras import with_extra_rows
from pipeline.stream.records import Portion, Records, open_records
from trainer.config import Config, load_config, resolve
from trainer.folds import FoldParts
from trainer.recipe import read_recipe

_TRAIN, _VALIDATION = "train", "val"
_LABEL_KINDS: tuple[LabelKind, ...] = ("binary", "multiclass", "multilabel")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A resolved recipe, its first fold, and what of the records the step needs."""

    config: Config
    records: Records
    rows: pd.DataFrame
    ops: tuple[Op, ...]
    fold: FoldParts
    extras: tuple[Portion, ...] = ()
    metadata_width: int | None = None  # of a stand-in; None: the fold's encoder says
    images: int | None = None  # a training epoch's; None: not known
    validation_images: int | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `read_subject` reads."""
    parser.add_argument("--config", help="the recipe, a TOML file (default: every default)")
    add_set_flag(
        parser,
        "a setting on top of the recipe, such as model.backbone=efficientnet-b4; repeatable",
    )
    parser.add_argument("--records", help="the record set it would train on; no image is read")
    parser.add_argument(
        "--allow_failures", action="store_true", help="take records that lack too many rows"
    )
    without = parser.add_argument_group("without --records")
    without.add_argument("--size_px", type=int, help="of the images (default: the recipe's)")
    without.add_argument("--label", choices=_LABEL_KINDS, default=None, help="default: binary")
    without.add_argument("--classes", type=int, help="how many (default: the recipe's, or 2)")
    without.add_argument(
        "--metadata_width", type=int, default=None, help="of fused metadata (default: 16)"
    )
    without.add_argument("--images", type=int, help="training images, for an epoch's time")
    without.add_argument("--validation_images", type=int, help="images predicted each epoch")


def read_subject(flags: argparse.Namespace) -> Subject:
    """Reads recipe and manifest; all agree, or an error says what does not.

    Raises:
      SettingsError: as `trainer.recipe.read_recipe`, or flags that do not go together.
      ManifestError: the records are not there, or not complete.
    """
    return _of_records(flags) if flags.records else _without_records(flags)


def _of_records(flags: argparse.Namespace) -> Subject:
    for name in ("size_px", "label", "classes", "metadata_width", "images", "validation_images"):
        if getattr(flags, name) is not None:
            raise SettingsError(
                f"--{name} must be left out with --records, which say it, got "
                f"{getattr(flags, name)}"
            )
    recipe = read_recipe(
        open_records(flags.records, allow_failures=flags.allow_failures),
        flags.config,
        flags.overrides,
        folds="all",
        allow_failures=flags.allow_failures,
        replicas=None,
    )
    fold, manifest = recipe.folds[0], recipe.records.manifest
    extra_images = sum(portion.examples for portion in recipe.extras)
    return Subject(
        config=recipe.config,
        records=recipe.records,
        rows=with_extra_rows(read_rows(flags.records), recipe.records, recipe.extras),
        ops=recipe.ops,
        extras=recipe.extras,
        fold=fold,
        images=manifest.examples_in(fold.train) + extra_images,
        validation_images=manifest.examples_in(fold.validation),
    )


def _without_records(flags: argparse.Namespace) -> Subject:
    config = load_config(flags.config, flags.overrides)
    size_px = flags.size_px or config.data.image_size_px
    if size_px is None:
        raise SettingsError(
            "--size_px must be given, for neither --records nor data.image_size_px say it"
        )
    if size_px < 8:
        raise SettingsError(f"--size_px must be 8 or more, got {size_px}")
    for name in ("images", "validation_images", "metadata_width"):
        if (value := getattr(flags, name)) is not None and value < 1:
            raise SettingsError(f"--{name} must be 1 or more, got {value}")
    label = _label(flags, config)
    manifest = _stand_in(label, max(size_px, config.data.evaluation_size_px or 0))
    data = dataclasses.replace(config.data, image_size_px=size_px)
    config = resolve(dataclasses.replace(config, data=data, extra=()), manifest)
    multilabel = label.kind == "multilabel"
    targets = [[1.0] * len(label.classes)] * 2 if multilabel else list(range(len(label.classes)))
    return Subject(
        config=config,
        records=Records(folder="", manifest=manifest),
        rows=pd.DataFrame({"part": _TRAIN, "target": targets}),
        ops=build_ops(config.augment),
        fold=FoldParts(number=0, fold=0, train=(_TRAIN,), validation=(_VALIDATION,)),
        metadata_width=(flags.metadata_width or 16) if config.model.fusion else 0,
        images=flags.images,
        validation_images=flags.validation_images,
    )


def _label(flags: argparse.Namespace, config: Config) -> LabelInfo:
    names = config.data.classes
    count = flags.classes or len(names) or 2
    if names and count != len(names):
        raise SettingsError(
            f"--classes must be {len(names)}, as data.classes of the recipe, got {count}"
        )
    kind: LabelKind = flags.label or ("binary" if count == 2 else "multiclass")
    if count < 2 and kind != "multilabel":
        raise SettingsError(f"--classes must be 2 or more, got {count}")
    if kind == "binary" and count != 2:
        raise SettingsError(f"--classes must be 2 with --label binary, got {count}")
    return LabelInfo(kind=kind, classes=names or tuple(f"class{n}" for n in range(count)))


def _stand_in(label: LabelInfo, size_px: int) -> Manifest:
    """A manifest of no records, with what a step depends on."""
    counts = dict.fromkeys(label.classes, 1)
    return Manifest(
        name="none",
        size=size_px,
        features=(Feature(name="metadata", dtype="float32", shape=(), role="number"),),
        label=label,
        parts=tuple(
            PartInfo(part=part, fold=-1, examples=1, groups=1, classes=counts)
            for part in (_TRAIN, _VALIDATION)
        ),
        shards=tuple[ShardInfo, ...](),
        plan_digest="",
        render_digest="",
        spec={},
        failures={},
        failures_over_limit=False,
        pixel_mean=(),
        pixel_std=(),
        versions={},
    )
