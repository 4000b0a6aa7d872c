"""Where gs:// refuses TensorFlow a command ends with one line that says what to do."""

import pytest
import tensorflow as tf

from pipeline.command_line import run
from pipeline.storage_refusals import storage_refusal
from trainer import predict, task

HTTP = "Error executing an HTTP request: HTTP response code "
DENIED = (
    HTTP
    + """403 with body '{
  "error": {
    "code": 403,
    "message": "trainer@p does not have storage.objects.create access to gs://other/x."
  }
}'
 when initiating an upload to gs://some-bucket/runs/b0/weights.index
 [[{{node SaveV2}}]] [Op:SaveV2]"""
)
ROLE = "give the account the role roles/storage.objectAdmin on the bucket"


def error_of(kind, message):
    return getattr(tf.errors, kind)(None, None, message)


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("PermissionDeniedError", DENIED,
         "gs://some-bucket/runs/b0/weights.index: access must be granted, got 403 (trainer@p does "
         f"not have storage.objects.create access to gs://other/x.); {ROLE}, or objectViewer to "
         "read alone"),
        ("PermissionDeniedError", HTTP + "403 when reading gs://b0b/r/a.tfrecord.",
         f"gs://b0b/r/a.tfrecord: access must be granted, got 403; {ROLE}, or objectViewer to read "
         "alone"),
        ("PermissionDeniedError", HTTP + "401 with body '' when reading metadata of gs://b0b/r",
         "gs://b0b/r: credentials must be there, got none that work: 401; run `gcloud auth "
         "application-default login`, or give the job a --service_account"),
        ("UnauthenticatedError", "no token when reading gs://b0b/r",
         "gs://b0b/r: credentials must be there, got none that work: UnauthenticatedError; run "
         "`gcloud auth application-default login`, or give the job a --service_account"),
        ("NotFoundError", HTTP + "404 with body 'Not Found'\n\t when reading gs://b0b/r",
         "gs://b0b/r: a file or bucket must be there, got 404; was it removed, or is the name "
         "another one?"),
        ("NotFoundError", "The specified bucket gs://b0b/ was not found.",
         "gs://b0b/: a file or bucket must be there, got NotFoundError; was it removed, or is the "
         "name another one?"),
        ("AbortedError",
         f"All 10 retry attempts failed. The last failure: {HTTP}503 when uploading gs://b0b/r",
         "gs://b0b/r: the storage must answer, got 503, also when asked again; the same command "
         "goes on from here"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_path_the_rule_and_the_mend(kind, message, told):
    assert str(storage_refusal(error_of(kind, message))) == told


@pytest.mark.parametrize(
    "error",
    [
        error_of("PermissionDeniedError", "/root/runs; Permission denied"),
        error_of("NotFoundError", "Key head/kernel not found in checkpoint gs://b0b/weights"),
        error_of("InternalError", "a fault of ours, when reading gs://b0b/r"),
        RuntimeError("when reading gs://b0b/r"),
    ],
)
def test_a_fault_of_ours_keeps_its_stack(error):
    def job():
        raise error

    assert storage_refusal(error) is None
    with pytest.raises(type(error)):
        run("job", job)


@pytest.mark.parametrize(
    ("module", "job", "words"),
    [
        (task, "train", ["--records", "gs://b0b/r", "--run", "gs://some-bucket/runs/b0"]),
        (predict, "predict", ["--records", "gs://b0b/r", "--run", "gs://some-bucket/runs/b0"]),
    ],
)
def test_training_and_prediction_end_with_one_line(module, job, words, monkeypatch, capsys):
    def refused(*_):
        raise error_of("PermissionDeniedError", DENIED)

    monkeypatch.setattr(module, job, refused)
    assert module.main(words) == 1
    [line] = capsys.readouterr().err.splitlines()
    name = module.__name__.rpartition(".")[2]
    assert line.startswith(f"{name}: error: gs://some-bucket/runs/b0/weights.index: access must be")
