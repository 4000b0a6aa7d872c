"""A command line of `trainer.vertex` for tests, and what its dry run prints."""

import trainer.vertex.__main__ as vertex
from conftest import ROOT

IMAGE = "us-docker.pkg.dev/some-project/foldstream/trainer-tpu@sha256:" + 64 * "0"
FLAGS = (
    "--config", f"{ROOT}/configs/b0.toml", "--records", "gs://some-bucket/out/256",
    "--run", "gs://some-bucket/runs/b0", "--image", IMAGE, "--tpu_type", "v3-8",
    "--project", "some-project", "--region", "us-central1",
)  # fmt: skip


def dry_run(capsys, kind, *flags):
    """The job of FLAGS and some more, read by a type of the API's."""
    assert vertex.main([*FLAGS, *flags, "--dry_run"]) == 0
    return kind.from_json(capsys.readouterr().out)
