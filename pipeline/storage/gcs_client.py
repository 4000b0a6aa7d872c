"""How Google Cloud Storage is asked: the client, what is repeated, and what errors say.

What may pass is repeated for five minutes; what will not is one `StorageError` at once: no
permission, no credentials. With `STORAGE_EMULATOR_HOST` set no credentials are asked for.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http
import importlib
import os
import random
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.errors import SettingsError
from pipeline.storage.backend import StorageError
from pipeline.storage.bucket_name import RULE, is_bucket_name

# Google's libraries draw the boundaries of uploads, and pauses, from Python's own random numbers. A
# lease is renewed at any moment: also between the seed of a training and the weights that it draws.
CHANCE = random.SystemRandom()
for _module in (
    "google.cloud.storage._media._upload",
    "google.api_core.retry.retry_base",
    "google.auth._exponential_backoff",
):
    vars(importlib.import_module(_module))["random"] = CHANCE

# The pauses are random, up to twice what is said: machines that were refused at once do not all
# come back at once.
RETRY = DEFAULT_RETRY.with_delay(initial=0.5, multiplier=2, maximum=32).with_timeout(300)
_CONNECTIONS = 64  # kept open; a worker has a thread for each image that it waits for
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)


def split(path: str) -> tuple[str, str]:
    """`gs://BUCKET/NAME` as (bucket, name); the name without empty parts, `.` and `..`."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not is_bucket_name(bucket):
        raise SettingsError(
            f"path must be gs://BUCKET/NAME, got {path!r}; a bucket's name has {RULE}"
        )
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise SettingsError(f"path must stay in its bucket, got {path!r}")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return bucket, "/".join(parts)


@contextlib.contextmanager
def asking(path: str) -> Iterator[storage.Bucket]:
    """The bucket of a path; what Google's libraries raise becomes what `pipeline.storage` says."""
    bucket, _ = split(path)
    try:
        yield _client().bucket(bucket)
    except (api.PreconditionFailed, api.RequestRangeNotSatisfiable, DataCorruption):
        raise
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        raise StorageError(
            f"{path}: credentials must be there, got none that work ({error}); run `gcloud auth "
            "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    except (api.GoogleAPIError, auth.GoogleAuthError, InvalidResponse, *_BROKEN) as error:
        cause = getattr(error, "cause", None) or error
        status = getattr(cause, "code", None) or getattr(
            getattr(cause, "response", None), "status_code", None
        )
        if status in (404, 410):  # gone; an upload session that has ended is as well
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from error
        if status in (401, 403):
            raise StorageError(
                f"{path}: access must be granted, got {status} {_reason(error)}; give the account "
                "the role roles/storage.objectAdmin on the bucket, or objectViewer to read alone"
            ) from error
        raise StorageError(
            f"{path}: the storage must answer, got {status or type(cause).__name__} "
            f"({_reason(cause)}), also when asked again; the same command goes on from here"
        ) from error


def _reason(error: Any) -> str:
    """The storage's own words, without the address that the libraries put before them."""
    response = getattr(error, "response", None)
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        return str(response.json()["error"]["message"])  # type: ignore[union-attr]
    text = getattr(error, "message", "") or str(error)
    status = getattr(error, "code", None)
    return text or (http.HTTPStatus(status).phrase if status else "no reason")


def _client() -> storage.Client:
    return _client_of(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"))


@functools.lru_cache(maxsize=1)
def _client_of(process: int, emulator: str | None) -> storage.Client:
    """One client a process: a connection must not be shared with a fork."""
    # Requests for objects name no project; without one the library would look for it.
    client = storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT", "foldstream"))
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)
    return client
