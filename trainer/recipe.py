"""What a command line asks to train, read and checked without TensorFlow.

`trainer.task` reads one recipe, `trainer.search` one a trial.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.stream.augment.ops import Op
from pipeline.stream.augment.recipe import build_ops
from pipeline.stream.extras import open_extras, pin_extras
from pipeline.stream.records import Portion, Records
from trainer.config import Config, load_config, resolve
from trainer.folds import FoldParts, check_examples, choose_folds, fold_parts
from trainer.strategy import check_replicas


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A resolved config with what it names: record sets, folds, ops."""

    records: Records
    extras: tuple[Portion, ...]
    config: Config
    folds: tuple[FoldParts, ...]
    chosen: tuple[FoldParts, ...]  # those of `folds` that are asked for
    ops: tuple[Op, ...]


def read_recipe(
    records: Records,
    config_path: str | None,
    overrides: Sequence[str],
    *,
    folds: str,
    allow_failures: bool,
    replicas: int | None,
) -> Recipe:
    """A config file with its `KEY=VALUE` overrides on some records, all agreeing.

    But for images that extra records share with the validation parts: to look for them takes
    minutes (`refuse_leaks`).

    Raises:
      SettingsError: a key is unknown, or settings do not fit each other or the records.
      ManifestError: an extra record set is not there.
    """
    manifest = records.manifest
    config = resolve(load_config(config_path, overrides), manifest)
    extras = open_extras(
        config.extra,
        records,
        image_size_px=config.data.image_size_px,
        allow_failures=allow_failures,
    )
    config = dataclasses.replace(config, extra=pin_extras(config.extra, extras))
    all_folds = fold_parts(manifest, config.data)
    chosen = choose_folds(all_folds, folds)
    batch_size = config.train.batch_size
    check_examples(manifest, chosen, batch_size, config.optimizer.accumulate_steps)
    if replicas is not None:
        check_replicas(replicas, batch_size)
    return Recipe(
        records=records,
        extras=extras,
        config=config,
        folds=all_folds,
        chosen=chosen,
        ops=build_ops(config.augment),
    )
