"""What a command line asks `trainer.predict` for, and the checks that need no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePath
from typing import get_args

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.predictions import PREDICTIONS_NAME
from pipeline.stream.views import check_views
from trainer.precision import Precision
from trainer.prediction.assign import OUT_OF_FOLD
from trainer.prediction.average import Average
from trainer.prediction.images import Images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Runs, what they predict, and how."""

    runs: tuple[str, ...]
    records: str
    ensemble: str | None = None  # the file that says how several runs are combined
    part: str = OUT_OF_FOLD
    images: Images | None = None  # in place of a part of the records
    views: str = "1"
    average: Average = "prob"
    keep_views: bool = False
    folds: str = "all"
    output: str | None = None
    submission: str | None = None
    submission_columns: tuple[str, ...]
    batch_size: int | None = None  # images at once; None: the recipe's
    precision: Precision = "float32"
    allow_failures: bool = False
    tpu: str | None = None
    replicas: int | None = None

    def __post_init__(self) -> None:
        check_views(self.views)
        if self.average not in get_args(Average):
            raise ValueError(f"average must be prob, logit or rank, got {self.average!r}")
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError(f"--batch_size must be 1 or more, got {self.batch_size}")
        if self.replicas is not None and self.replicas < 1:
            raise SettingsError(f"--replicas must be 1 or more, got {self.replicas}")
        if self.images and not 0 <= self.images.max_failures <= 1:
            limit = self.images.max_failures
            raise SettingsError(f"--max_failures must be in [0, 1], got {limit}")
        if self.output is not None and not self.output.endswith(".parquet"):
            raise SettingsError(f"--output must end in .parquet, got {self.output!r}")

    @property
    def what(self) -> str:
        """The word for what is predicted, in file names."""
        return f"images-{PurePath(self.images.folder).name}" if self.images else self.part

    def default_output(self, run: str) -> str:
        """`RUN/predictions-PART-VIEWS.parquet`."""
        return storage.join(run, f"predictions-{self.what}-{self.views}.parquet")

    def check_runs(self, runs: Sequence[str]) -> None:
        """Raises SettingsError for a run given twice, or a file that is not to be written over."""
        folders = [storage.join(run) for run in runs]
        for place, folder in enumerate(folders):
            if folder in folders[:place]:
                raise SettingsError(
                    f"--run: each must be given once, got {runs[place]} again; leave one out"
                )
        if self.output is None:
            if len(runs) > 1 or self.ensemble:
                raise SettingsError(
                    f"--output must be given for predictions of several runs, got none for "
                    f"{len(runs)}; name a .parquet file"
                )
            return
        output = storage.join(self.output)
        if len(runs) > 1 and output in [self.default_output(run) for run in runs]:
            raise SettingsError(f"--output must not be a member's own file, got {self.output!r}")
        if PurePath(output).name == PREDICTIONS_NAME:  # by whatever way it leads into a run
            raise SettingsError(
                f"--output must not be called as the file that training writes, got "
                f"{self.output!r}; leave it out, or give another name"
            )
