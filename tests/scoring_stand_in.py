"""Scores that no model gave, for tests of the job around them: loading models takes longest."""

import numpy as np

from beam_jobs.score_shards import SavedModels
from pipeline.images.render import RenderSpec
from pipeline.records.label import LabelInfo
from pipeline.scoring.exported import ExportedModel, Member, Rendering


def score_without_models(monkeypatch) -> None:
    """`score_images` takes any `--models`; a row's logit is its number's twentieth."""
    model = ExportedModel(
        folder="exported",
        digest="0" * 64,
        label=LabelInfo(kind="binary", classes=("0", "1"), positive=("1",)),
        columns=(),
        rendering=Rendering(48, RenderSpec()),
        spec={},
    )

    def predict(self, model, prepared, rows, loaded):
        logits = np.array(prepared.rows[rows], np.float64)[:, None] / 20
        return logits, 1 / (1 + np.exp(-logits))

    members = (Member(name="run", models=(model,)),)
    monkeypatch.setattr("beam_jobs.score_job.find_members", lambda *_: members)
    monkeypatch.setattr(SavedModels, "load_model", lambda _: _Nothing())
    monkeypatch.setattr(SavedModels, "_predict", predict)


class _Nothing:
    """In place of loaded models; Beam shares it weakly."""


def score_flags(csv: str, images: str, output: str, *more: str) -> list[str]:
    """The command line of `score_images` for `write_dataset`'s files."""
    return [
        "--models=run", "--csv", csv, "--images", images, "--output", output,
        "--id=image_name", "--image_path={image_name}.jpg", "--rows_per_shard=5", *more,
    ]  # fmt: skip
