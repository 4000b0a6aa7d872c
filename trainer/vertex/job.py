"""A training as the API's `CustomJob`, or a study as its `HyperparameterTuningJob`: plain dicts.

The run folder is not named: Vertex AI sets AIP_MODEL_DIR, AIP_CHECKPOINT_DIR and
AIP_TENSORBOARD_LOG_DIR to `model`, `checkpoints` and `logs` in the job's folder (of a study, in a
folder a trial), and `trainer.task` takes them. So a job that is begun again goes on.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from trainer.vertex.machines import Machine
from trainer.vertex.study import Study

TASK = "trainer.task"
TRIAL = "trainer.trial"  # the same, with each setting of the tuner's as a flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on what, and as whom."""

    name: str
    folder: str  # gs://, of the job
    records: str
    config: str  # gs://, the recipe as it was checked
    folds: str
    machine: Machine
    image: str  # of docker/trainer.Dockerfile
    package: str | None = None  # an sdist on gs:// to install into the image; None: it is in there
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    service_account: str | None = None
    network: str | None = None
    tensorboard: str | None = None
    is_spot: bool = False
    restarts: bool = True
    timeout_hours: float = 24.0
    allow_failures: bool = False

    def arguments(self) -> list[str]:
        """The flags of the trainer."""
        words = ["--records", self.records, "--config", self.config, "--folds", self.folds]
        words += ["--tpu", "local"]
        return [*words, "--allow_failures"] if self.allow_failures else words


def custom_job(training: Training) -> dict[str, Any]:
    """A `CustomJob` in the API's names."""
    return {
        "display_name": training.name,
        "job_spec": _job_spec(training, TASK),
        "labels": {"program": "foldstream"},
    }


def tuning_job(training: Training, study: Study) -> dict[str, Any]:
    """A `HyperparameterTuningJob` in the API's names."""
    return {
        "display_name": training.name,
        "study_spec": study.as_spec(),
        "max_trial_count": study.trials,
        "parallel_trial_count": study.parallel,
        "max_failed_trial_count": study.max_failed,
        "trial_job_spec": _job_spec(training, TRIAL),
        "labels": {"program": "foldstream"},
    }


def _job_spec(training: Training, module: str) -> dict[str, Any]:
    pool: dict[str, Any] = {
        "machine_spec": training.machine.as_spec(),
        "replica_count": 1,  # a TPU VM is one pool of one replica
        **_program(training, module),
    }
    optional = {
        "service_account": training.service_account,
        "network": training.network,
        "tensorboard": training.tensorboard,
    }
    return {
        "worker_pool_specs": [pool],
        "base_output_directory": {"output_uri_prefix": training.folder},
        "scheduling": {
            "timeout": f"{round(training.timeout_hours * 3600)}s",
            "restart_job_on_worker_restart": training.restarts,
            "strategy": "SPOT" if training.is_spot else "STANDARD",
        },
        **{name: value for name, value in optional.items() if value is not None},
    }


def _program(training: Training, module: str) -> dict[str, Any]:
    environment = [
        {"name": name, "value": value} for name, value in sorted(training.environment.items())
    ]
    if training.package is not None:
        return {
            "python_package_spec": {
                "executor_image_uri": training.image,
                "package_uris": [training.package],
                "python_module": module,
                "args": training.arguments(),
                "env": environment,
            }
        }
    return {
        "container_spec": {
            "image_uri": training.image,
            "args": [module, *training.arguments()],  # the image's entry point is `python -m`
            "env": environment,
        }
    }
