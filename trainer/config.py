"""The training recipe: what a TOML file under `configs/` and `--set` may say.

`trainer.task` loads it, lays it over the records' manifest, and writes the outcome as
`RUN/config.toml`. Importing this module and checking a recipe starts no TensorFlow: a misspelt key
is told at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.records.manifest import Manifest
from pipeline.settings import from_tables, load_recipe, merge, parse_override
from pipeline.stream.augment.chain import Border
from pipeline.stream.extras import ExtraConfig
from pipeline.stream.sampling import Sampling, check_sampling
from trainer.losses import LossConfig, fit_loss
from trainer.models.config import ModelConfig
from trainer.optimizers import OptimizerConfig
from trainer.precision import Precision
from trainer.schedules import ScheduleConfig
from trainer.stages.config import StageConfig, stage_key, with_epochs


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`[data]`: which examples, and how they are read."""

    classes: tuple[str, ...] = ()  # what the recipe is made for; none: whatever the records hold
    image_size_px: int | None = None  # None: the records' size
    evaluation_size_px: int | None = None  # of what is predicted; None: as in training
    folds: int | None = None  # merge the records' folds into so many; None: keep them
    train: tuple[str, ...] = ()  # for given parts, such as ["train"]
    validation: tuple[str, ...] = ()
    sampling: Sampling = "natural"  # or "balanced", or {positive_share = 0.1}
    # Where decoded images stay: "auto" is in memory where they fit, else nowhere.
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    memory_share: float = 0.3  # of the memory, for training's images, and for validation's
    cache_folder: str | None = None  # for the disk; None: the system's for temporary files
    shuffle_buffer: int = 2048  # examples
    border: Border = "reflect"  # what is seen beyond an image; "crop": nothing, by zooming in

    def __post_init__(self) -> None:
        for name in ("image_size_px", "evaluation_size_px"):
            if (size_px := getattr(self, name)) is not None and size_px < 8:
                raise ValueError(f"{name} must be 8 or more, got {size_px}")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"folds must be 2 or more, got {self.folds}")
        if bool(self.train) != bool(self.validation):
            raise ValueError("train and validation must be given together, got only one of them")
        if self.train and self.folds is not None:
            raise ValueError("folds must not be given beside train and validation parts")
        if shared := sorted({*self.train} & {*self.validation}):
            raise ValueError(f"train and validation must share no part, got {shared[0]!r} in both")
        storage.refuse_remote(
            self.cache_folder, "cache_folder", "it is mapped into memory; name a local disk's"
        )
        if self.shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer must be 1 or more, got {self.shuffle_buffer}")
        if not 0 < self.memory_share < 1:
            raise ValueError(f"memory_share must be in (0, 1), got {self.memory_share}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`[train]`: how long, how much at a time, and from which seed."""

    epochs: int = 10
    batch_size: int = 32  # over all replicas
    seed: int = 0
    steps_per_call: int = 32  # steps in one call of the compiled loop
    evaluate_every: int | None = None  # epochs; None: at the end only
    precision: Precision | None = None  # None: bfloat16 on TPU, float16 on GPU, float32 on CPU
    checkpoint_every: int | None = None  # steps; None: at each epoch's end only
    keep: Literal["last", "best"] = "last"  # the weights that predict; the best by `metric`
    metric: Literal["auc", "average_precision"] = "auc"  # of the validation, for whoever chooses

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "steps_per_call", "evaluate_every", "checkpoint_every")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.keep == "best" and self.evaluate_every is None:
            raise ValueError("evaluate_every must be given for keep = 'best', such as 1, got none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The whole recipe; every table may be left out."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    extra: tuple[ExtraConfig, ...] = ()  # further record sets, for training only
    augment: tuple[Any, ...] = ()  # tables for `pipeline.stream.augment.build_ops`, in order
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: tuple[LossConfig, ...] = (LossConfig(),)  # summed
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    stage: tuple[StageConfig, ...] = ()  # one after another; none: one, all of it as above
    init: str | None = None  # weights to start from: of RUN's same fold, or of RUN/foldK
    init_any_fold: bool = False  # also where these have seen the rows that validate here

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """What is trained one after another, one at least."""
        return self.stage or (StageConfig(epochs=self.train.epochs),)

    @property
    def has_plateau(self) -> bool:
        """True when the learning rate falls by the validation's score."""
        return self.schedule.kind == "on_plateau"

    @property
    def chooses_on_validation(self) -> bool:
        """True when the validation parts choose weights, rates or ends: no longer unseen."""
        return self.train.keep == "best" or any(
            stage.patience_epochs is not None or self.in_stage(number).has_plateau
            for number, stage in enumerate(self.stages)
        )

    def in_stage(self, number: int) -> Config:
        """The recipe with what a stage, the first of which is 0, changes of it."""
        stage = self.stages[number]
        optimizer, model, loss = self.optimizer, self.model, self.loss
        if stage.learning_rate is not None:
            optimizer = dataclasses.replace(optimizer, learning_rate=stage.learning_rate)
        if stage.dropout is not None:
            model = dataclasses.replace(model, dropout=stage.dropout)
        if stage.freeze_batch_norm:
            model = dataclasses.replace(model, batch_norm="frozen")
        if stage.loss_weights is not None:
            loss = tuple(
                dataclasses.replace(term, weight=weight)
                for term, weight in zip(loss, stage.loss_weights, strict=True)
            )
        return dataclasses.replace(
            self,
            optimizer=optimizer,
            model=model,
            loss=loss,
            schedule=stage.schedule or self.schedule,
            train=dataclasses.replace(self.train, epochs=stage.epochs or self.train.epochs),
            stage=(),
        )

    def __post_init__(self) -> None:
        if not self.loss:
            raise ValueError("loss must have a term, got none; leave it out for the cross-entropy")
        if self.has_plateau and self.train.evaluate_every is None:
            raise ValueError(
                "train.evaluate_every must be given for schedule.kind = 'on_plateau', got none"
            )
        if self.init_any_fold and self.init is None:
            raise ValueError("init_any_fold must be left out without init, got true")
        self._check_stages()
        for table in self.augment:
            if not isinstance(table, dict) or "op" not in table:
                raise ValueError(
                    f'augment must be tables such as {{op = "transpose"}}, got {table!r}'
                )

    def _check_stages(self) -> None:
        with_epochs(self.stage, self.train.epochs)
        for place, stage in enumerate(self.stage):
            key = stage_key(place, len(self.stage))
            weights = stage.loss_weights
            if weights is not None and len(weights) != len(self.loss):
                raise ValueError(
                    f"{key}.loss_weights must be {len(self.loss)}, one a [[loss]], got "
                    f"{list(weights)}"
                )
            if stage.patience_epochs is not None and self.train.evaluate_every is None:
                raise ValueError(
                    f"{key}.patience_epochs: train.evaluate_every must be given with it, got none"
                )
            if stage.group_rates.fusion != 1 and self.model.fusion is None:
                raise ValueError(
                    f"{key}.group_rates.fusion must be left out without model.fusion, "
                    f"got {stage.group_rates.fusion}"
                )
            self.in_stage(place)  # checks what stage and recipe make together


def load_config(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """The recipe of a TOML file on its base (or the defaults) with `--set` laid on top.

    Checked once all lie over one another, so settings that ask for each other may come in any
    order. A table that is `none` is the default one.

    Raises:
      SettingsError: naming the file and the flags, the key, the rule and the value.
    """
    tables, where = read_tables(path, overrides)
    tables = {name: table for name, table in tables.items() if table is not None}
    return from_tables(Config, _as_typed(tables), where)


def read_tables(path: str | None, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The same before it is checked: plain tables, and what files and flags to name in messages."""
    tables, where = load_recipe(path) if path else ({}, "defaults")
    for text in overrides:
        tables = merge(tables, parse_override(text))
    return tables, " ".join([where, *(f"--set {text}" for text in overrides)])


def resolve(config: Config, manifest: Manifest) -> Config:
    """The recipe as it runs on these records: size, folds, loss kinds and defaults, all agreeing.

    Raises:
      SettingsError: the recipe asks for what the records do not hold.
    """
    where = f"config on records {manifest.name!r}"
    label, data, model = manifest.label, config.data, config.model
    if label.kind == "none":
        raise SettingsError(f"{where}: the records must have a label to train on, got none")
    if data.classes and data.classes != label.classes:
        raise SettingsError(
            f"{where}: data.classes must be the records' {list(label.classes)}, in their order, "
            f"got {list(data.classes)}; drop the setting, or name other --records"
        )
    check_sampling(data.sampling, label, where)
    losses = tuple(fit_loss(loss, label, where) for loss in config.loss)
    if model.fusion and not any(f.role in ("category", "number") for f in manifest.features):
        raise SettingsError(
            f"{where}: model.fusion must be none, for the records hold no metadata; "
            "name columns under [metadata] in the dataset spec and make them again"
        )
    if manifest.size is None:
        raise SettingsError(f"{where}: the records must hold images, got none")
    size_px = data.image_size_px or manifest.size
    if size_px > manifest.size:
        raise SettingsError(
            f"{where}: data.image_size_px must be {manifest.size} or less, got {size_px}; "
            f"make records of --sizes {size_px}"
        )
    if data.evaluation_size_px is not None and data.evaluation_size_px > manifest.size:
        raise SettingsError(
            f"{where}: data.evaluation_size_px must be {manifest.size} or less, got "
            f"{data.evaluation_size_px}; make records of --sizes {data.evaluation_size_px}"
        )
    folds = data.folds or (None if data.train else len(manifest.record_folds) or None)
    _check_warmups(config, where)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, image_size_px=size_px, folds=folds),
        loss=losses,
        optimizer=config.optimizer.resolved(config.train.batch_size),
        schedule=config.schedule.resolved(),
        stage=tuple(
            _resolved_stage(config, stage)
            for stage in with_epochs(config.stage, config.train.epochs)
        ),
    )


def _check_warmups(config: Config, where: str) -> None:
    """Raises SettingsError for a warm-up that a stage's epochs cut off below the peak."""
    stages = with_epochs(config.stage, config.train.epochs) or config.stages
    for place, stage in enumerate(stages):
        schedule = stage.schedule or config.schedule
        warmup = schedule.own_settings().get("warmup_epochs")
        epochs = stage.epochs or config.train.epochs
        if warmup is not None and warmup > epochs:
            key = f"{stage_key(place, len(stages))}." if stage.schedule else ""
            raise SettingsError(
                f"{where}: {key}schedule.warmup_epochs must be {epochs} or less (the epochs that "
                f"it is part of), got {warmup:g}; lower it, or train longer"
            )


def _resolved_stage(config: Config, stage: StageConfig) -> StageConfig:
    """A stage as it runs: its learning rate of the real batch, its schedule's defaults said."""
    rate = stage.learning_rate
    if rate is not None:
        optimizer = dataclasses.replace(config.optimizer, learning_rate=rate)
        rate = optimizer.resolved(config.train.batch_size).learning_rate
    schedule = stage.schedule and stage.schedule.resolved()
    return dataclasses.replace(stage, learning_rate=rate, schedule=schedule)


def _as_typed(tables: dict[str, Any]) -> dict[str, Any]:
    """`--set data.train=train` names a list of one part, `--set data.cache=none` the word."""
    data = tables.get("data")
    if not isinstance(data, dict):
        return tables
    lists = {
        name: [data[name]] for name in ("train", "validation") if isinstance(data.get(name), str)
    }
    words = {"cache": "none"} if data.get("cache", "") is None else {}
    return {**tables, "data": {**data, **lists, **words}}
