"""What TensorFlow raises where gs:// refuses it, said as `pipeline.storage` says it.

`pipeline.command_line.run` asks it of every error that nobody has caught. TensorFlow is not
imported: only who has loaded it can raise its errors.
"""

from __future__ import annotations

import re

from pipeline.storage.backend import StorageError

_NOT_FOUND, _PERMISSION_DENIED, _ABORTED, _UNAVAILABLE, _UNAUTHENTICATED = 5, 7, 10, 14, 16
_CODES = (_NOT_FOUND, _PERMISSION_DENIED, _ABORTED, _UNAVAILABLE, _UNAUTHENTICATED)
_PATH = re.compile(r"gs://[^\s'\"\[\]]*[^\s'\"\[\].,:;)]")
_STATUS = re.compile(r"HTTP response code (\d{3})")
_REASON = re.compile(r"\"message\":\s*\"([^\"]+)\"")  # of the answer's JSON
_NO_FILE = re.compile(r"HTTP response code (404|410)|The specified (path|bucket) ")


def storage_refusal(error: BaseException) -> StorageError | None:
    """The error in one line: the path, the rule, the mend. None where no storage has refused.

    https://github.com/tensorflow/tensorflow/blob/v2.20.0/third_party/xla/third_party/tsl/tsl/platform/cloud/curl_http_request.cc
    makes 401, 403 and 407 "permission denied"; what was asked again in vain is "aborted".
    """
    if not any(kind.__module__.startswith("tensorflow.") for kind in type(error).__mro__):
        return None
    code, text = getattr(error, "error_code", None), str(getattr(error, "message", ""))
    paths, status = _PATH.findall(text), _STATUS.search(text)
    if code not in _CODES or not paths:
        return None
    path = paths[-1]  # after what the storage has answered
    reason = _REASON.search(text)
    got = " ".join(
        [status[1] if status else type(error).__name__, *([f"({reason[1]})"] if reason else [])]
    )
    if code == _UNAUTHENTICATED or (status and status[1] == "401"):
        return StorageError(
            f"{path}: credentials must be there, got none that work: {got}; run `gcloud auth "
            "application-default login`, or give the job a --service_account"
        )
    if code == _PERMISSION_DENIED:
        return StorageError(
            f"{path}: access must be granted, got {got}; give the account the role "
            "roles/storage.objectAdmin on the bucket, or objectViewer to read alone"
        )
    if code == _NOT_FOUND:
        if not _NO_FILE.search(text):
            return None
        return StorageError(
            f"{path}: a file or bucket must be there, got {got}; was it removed, or is the name "
            "another one?"
        )
    return StorageError(
        f"{path}: the storage must answer, got {got}, also when asked again; the same command goes "
        "on from here"
    )
