r"""Exports folds of a run as SavedModels that take JPEG bytes and raw metadata.

    python -m trainer.export --run runs/fused
    python -m trainer.export --run runs/fused --folds 0,1 --output models/

Writes `RUN/export/foldK/`, or `DIR/foldK/`: the SavedModel, and last `model.json`, which says what
it takes, gives and follows from. The weights are those that made the fold's predictions: averaged
or best where the recipe says so. JPEGs of the records' size give the logits of the predictions
file. Larger ones are cut to their central square and shrunk, as records of `--fit crop` are; what
`--trim_borders` or `--color_constancy` did is not done (`beam_jobs.score_images` does all that the
records' making did). TensorFlow alone serves them:

    model = tf.saved_model.load("runs/fused/export/fold0").signatures["serving_default"]
    model(image=tf.constant([jpeg]), sex=tf.constant(["female"]), age_approx=tf.constant([45.0]))

Exit codes as of `trainer.task`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from pipeline import storage
from pipeline.command_line import Parser
from pipeline.command_line import run as run_job
from pipeline.predictions import output_classes
from pipeline.records.manifest import read_manifest
from trainer.run_folder import records_made
from trainer.trained_run import TrainedRun, read_trained_run

SCHEMA_VERSION = 1
MODEL_NAME = "model.json"


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.export", __doc__)
    parser.add_argument(
        "--run",
        default=os.environ.get("AIP_MODEL_DIR"),
        help="a run folder of trainer.task (default: AIP_MODEL_DIR, which Vertex AI sets)",
    )
    parser.add_argument("--folds", default="all", help="all that are complete (default), or 0,1")
    parser.add_argument(
        "--records",
        help="the run's records, for a run that was begun before it noted what they are",
    )
    parser.add_argument("--output", metavar="DIR", help="where foldK/ go (default: RUN/export)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and exports."""
    parser = build_parser()
    flags = parser.parse(argv)
    if flags.run is None:
        parser.error("--run must be given: the folder of a run")
    return run_job("export", lambda: export(flags))


def export(flags: argparse.Namespace) -> int:
    """Exports the folds that are asked for, one after another."""
    output = flags.output or storage.join(flags.run, "export")
    trained = read_trained_run(flags.run)
    chosen = trained.choose(flags.folds)
    records = records_made(flags.run, read_manifest(flags.records) if flags.records else None)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for fold in chosen:
        folder = storage.join(output, f"fold{fold}")
        export_fold(trained, fold, folder, records)
        print(f"fold {fold}: {folder}", flush=True)
    return 0


def export_fold(run: TrainedRun, fold: int, folder: str, records: dict[str, Any] | None) -> None:
    """Writes the SavedModel of one complete fold into `folder`; what was there is replaced.

    `records` are what `records_made` tells of them.
    """
    from trainer.exported.columns import Columns  # after what can be refused without TensorFlow
    from trainer.exported.graph import save_model

    encoder, label, size_px = run.encoder(fold), run.label, run.size_px
    trained = run.load(fold)
    columns = Columns(encoder) if encoder else None
    storage.remove_tree(folder)
    save_model(folder, trained.model, size_px, label, columns)
    about = {
        "schema_version": SCHEMA_VERSION,
        "image_size_px": size_px,
        "kind": label.kind,
        "classes": list(output_classes(label)),  # of the columns of logits and probs
        "positive": list(label.positive),
        "label": dataclasses.asdict(label),
        "columns": columns.describe() if columns else [],
        "records": records,  # what beam_jobs.score_images prepares images like
        "step": trained.step,  # of the training, whose weights these are
        "is_averaged": trained.is_averaged,
        "run": run.folds[fold].run,
    }
    storage.write_text(storage.join(folder, MODEL_NAME), json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
