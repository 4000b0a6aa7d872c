"""From a dict to the API: checked by its own types, printed as JSON, or submitted.

google-cloud-aiplatform comes with apache-beam[gcp]. Its types and its client are used, not its SDK,
which starts threads, looks for credentials and imports much more.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import DataError

_CONSOLE = "https://console.cloud.google.com/vertex-ai/training"


def to_json(job: dict[str, Any], *, is_study: bool) -> str:
    """The job as the REST API takes it; ValueError for a field that the API does not have."""
    kind = _types()[is_study]
    text = kind.to_json(
        kind(job),
        always_print_fields_with_no_presence=False,
        use_integers_for_enums=False,
        indent=1,
    )
    return str(text)


def submit(job: dict[str, Any], *, is_study: bool, project: str, region: str) -> str:
    """Begins the job; its resource name.

    Raises:
      DataError: Vertex AI refuses it, in its own words, or gives no answer that says whether the
        job has begun.
    """
    from google.api_core.exceptions import ClientError, GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.aiplatform_v1 import JobServiceClient

    parent = f"projects/{project}/locations/{region}"
    try:
        client = JobServiceClient(
            client_options={"api_endpoint": f"{region}-aiplatform.googleapis.com"}
        )
        made = _types()[is_study](job)
        if is_study:
            begun = client.create_hyperparameter_tuning_job(
                parent=parent, hyperparameter_tuning_job=made
            )
        else:
            begun = client.create_custom_job(parent=parent, custom_job=made)
    except (ClientError, GoogleAuthError) as error:
        raise DataError(f"Vertex AI: {error}") from error
    except GoogleAPIError as error:
        raise DataError(
            f"Vertex AI: {error}; whether the job has begun, the console tells"
        ) from error
    return str(begun.name)


def where_to_look(name: str, *, is_study: bool, project: str) -> str:
    """The address of a job's page, from its resource name."""
    _, _, _, region, _, number = name.split("/")
    page = "hyperparameter-tuning-jobs" if is_study else "custom-jobs"
    return f"{_CONSOLE}/{page}/locations/{region}/{number}?project={project}"


def _types() -> tuple[Any, Any]:
    from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob

    return CustomJob, HyperparameterTuningJob
