r"""Trains a recipe on a TPU of Vertex AI, or lets its tuner search for a better one.

    python -m trainer.vertex --config configs/b0.toml --records gs://BUCKET/out/256 \
        --tpu_type v3-8 --run gs://BUCKET/runs/b0 --image IMAGE@sha256:… \
        --project PROJECT --region us-central1 [--study configs/study.toml] [--dry_run]

The recipe is checked here, before anything is paid for, and copied into the run's folder, where it
stays: another one on the same RUN is refused. The predictions come to RUN/model. The same command
again begins a job that goes on there. `--dry_run` prints the job as the API takes it, and submits
and writes nothing. Exit codes: 0 begun or printed, 1 Vertex AI refuses the job, 2 the command line,
the recipe or the study is at fault.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from pipeline.command_line import Parser, add_set_flag, run
from pipeline.errors import DataError, SettingsError
from pipeline.storage.bucket_name import RULE, is_bucket_name
from trainer.config import Config, load_config
from trainer.strategy import check_replicas
from trainer.vertex.job import Training, custom_job, tuning_job
from trainer.vertex.machines import MACHINES, find_machine
from trainer.vertex.recipe import TO_CHANGE, keep_recipe
from trainer.vertex.study import Study, read_study
from trainer.vertex.submit import submit, to_json, where_to_look

# TPUStrategy is best proven on the older Keras, which docker/trainer.Dockerfile holds as well.
_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1"}
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("trainer.vertex", __doc__)
    parser.add_argument("--config", help="the recipe, a TOML file (default: every default)")
    add_set_flag(parser, "a setting on top of the recipe; may be repeated")
    parser.add_argument("--records", required=True, help="gs://, a record set such as out/256")
    parser.add_argument("--folds", default="all", help="all (default), or such as 0,1")
    parser.add_argument("--run", required=True, help="gs://, the folder of the run")
    parser.add_argument(
        "--allow_failures", action="store_true", help="take records that lack too many rows"
    )
    group = parser.add_argument_group("a search by Vertex AI's tuner")
    group.add_argument("--study", help="a TOML file such as configs/study.toml")
    group = parser.add_argument_group("the machine")
    group.add_argument("--tpu_type", required=True, help=f"one of {', '.join(MACHINES)}")
    group.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    group.add_argument(
        "--no_restart", action="store_true", help="when a machine fails, let the job fail"
    )
    group.add_argument("--timeout_hours", type=float, default=24, help="at most (default 24)")
    group = parser.add_argument_group("the program")
    group.add_argument(
        "--image", required=True, help="IMAGE@sha256:…, of docker/trainer.Dockerfile, by its digest"
    )
    group.add_argument(
        "--package", help="gs://, an sdist of this package to install into another --image"
    )
    group.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    group = parser.add_argument_group("the account")
    group.add_argument("--project", required=True, help="the Cloud project that pays")
    group.add_argument("--region", required=True, help="the bucket's, one that has the TPU")
    group.add_argument("--service_account", help="whom the job acts as")
    group.add_argument("--network", help="projects/NUMBER/global/networks/NAME")
    group.add_argument("--tensorboard", help="projects/…/tensorboards/NUMBER, to follow it live")
    parser.add_argument("--name", help="of the job (default: the run folder's)")
    parser.add_argument("--dry_run", action="store_true", help="print the job and leave")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and submits the job."""
    flags = build_parser().parse(argv)
    return run("vertex", lambda: train_on_vertex(flags))


def train_on_vertex(flags: argparse.Namespace) -> int:
    """Checks what can be checked here, then prints or submits the job."""
    training, config, study = read_training(flags)
    job = custom_job(training) if study is None else tuning_job(training, study)
    is_study = study is not None
    if flags.dry_run:
        print(to_json(job, is_study=is_study))
        return 0
    keep_recipe(training.config, config)
    try:
        name = submit(job, is_study=is_study, project=flags.project, region=flags.region)
    except DataError as error:  # who sent the same meanwhile may have a job that reads the recipe
        raise DataError(
            f"{error}; the recipe stays in {training.config}; to send another, {TO_CHANGE}"
        ) from error
    print(f"{name}\n{where_to_look(name, is_study=is_study, project=flags.project)}")
    return 0


def read_training(flags: argparse.Namespace) -> tuple[Training, Config, Study | None]:
    """The training, its recipe, and the study if there is one.

    Raises:
      SettingsError: a path, the recipe, the study or the batch on this machine.
    """
    for flag in ("records", "run", "package"):
        if (path := getattr(flags, flag)) is not None:
            _check_path(f"--{flag}", path)
    _check_image(flags.image)
    if not 0 < flags.timeout_hours <= 168:
        raise SettingsError(f"--timeout_hours must be in (0, 168], got {flags.timeout_hours:g}")
    machine = find_machine(flags.tpu_type)
    config = load_config(flags.config, flags.overrides)
    check_replicas(machine.replicas, config.train.batch_size)
    study = None
    if flags.study:
        replicas = machine.replicas
        study = read_study(flags.study, flags.config, flags.overrides, replicas=replicas)
    folder = flags.run.rstrip("/")
    name = flags.name or folder.rpartition("/")[2]
    if len(name) > 128:
        raise SettingsError(f"--name must have 128 characters at most, got {len(name)}")
    training = Training(
        name=name,
        folder=folder,
        records=flags.records,
        config=f"{folder}/config.toml",
        folds=flags.folds,
        machine=machine,
        image=flags.image,
        package=flags.package,
        environment=_environment(flags.env),
        service_account=flags.service_account,
        network=flags.network,
        tensorboard=flags.tensorboard,
        is_spot=flags.spot,
        restarts=not flags.no_restart,
        timeout_hours=flags.timeout_hours,
        allow_failures=flags.allow_failures,
    )
    return training, config, study


def _check_path(flag: str, path: str) -> None:
    if not path.startswith("gs://"):
        raise SettingsError(f"{flag} must be gs://BUCKET/…, got {path!r}")
    if re.search(r"\s", path):
        raise SettingsError(f"{flag} must be without blanks, got {path!r}")
    bucket = path.removeprefix("gs://").partition("/")[0]
    if not is_bucket_name(bucket):
        raise SettingsError(f"{flag}: a bucket's name must have {RULE}, got {bucket!r}")


def _check_image(image: str) -> None:
    """A job that begins again on another machine must find the same program there."""
    if not _DIGEST.fullmatch(image):
        raise SettingsError(
            f"--image must name its digest, IMAGE@sha256:…, got {image!r}: a tag may be another "
            "image when the job begins again; gcloud artifacts docker images describe "
            "IMAGE:TAG --format 'value(image_summary.fully_qualified_digest)' tells it"
        )


def _environment(words: Sequence[str]) -> dict[str, str]:
    environment = dict(_ENVIRONMENT)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsError(f"--env must be NAME=VALUE, got {word!r}")
        environment[name] = value
    return environment


if __name__ == "__main__":
    sys.exit(main())
