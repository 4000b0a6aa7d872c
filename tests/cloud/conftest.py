"""The stand-in for Google Cloud Storage as fixtures: one process a session, faults a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import gcs_client

SECONDS = 3600  # after which the gateway ends by itself


class Gateway:
    """What a test asks of the gateway."""

    def __init__(self, port: int, folder: Path) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """For a process whose storage it is to be, TensorFlow's as well."""
        ours = ("STORAGE_EMULATOR_HOST", "GOOGLE_", "AIP_", "http", "no_proxy", "NO_PROXY", "HTTP")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "STORAGE_EMULATOR_HOST": self._address,
            "https_proxy": self._address,
            "CURL_CA_BUNDLE": str(self._folder / "ca.pem"),
            "NO_GCE_CHECK": "true",  # TensorFlow would ask the machine's metadata server
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        }

    def breaks(self, *faults: dict[str, Any]) -> None:
        """From now on these faults alone; none: it works."""
        self._control(json.dumps(faults).encode())

    def met(self) -> list[int]:
        """How often each fault was met since."""
        return self._control()["met"]

    def requests(self) -> list[str]:
        """All requests since, "METHOD /path?query"."""
        return self._control()["requests"]

    def _control(self, body: bytes | None = None) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._address}/_gateway", body, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    program = str(Path(__file__).with_name("gateway.py"))
    process = subprocess.Popen(
        [sys.executable, program, str(folder), "--seconds", str(SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr.txt").open("w"),
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, (folder / "stderr.txt").read_text()
        yield Gateway(int(line), folder)
    finally:
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture
def gateway(running_gateway, monkeypatch) -> Gateway:
    """The gateway, whole again, as this process's storage; what fails, fails soon."""
    quick = gcs_client.RETRY.with_delay(initial=0.05, multiplier=2, maximum=1).with_timeout(20)
    monkeypatch.setattr(gcs_client, "RETRY", quick)
    running_gateway.breaks()
    for name in ("STORAGE_EMULATOR_HOST", "NO_GCE_CHECK"):
        monkeypatch.setenv(name, running_gateway.environment[name])
    return running_gateway


@pytest.fixture
def bucket(request, gateway) -> str:
    """A folder of the bucket that no other test writes into."""
    return f"gs://bucket/{request.node.name.replace('[', '-').replace(']', '')}"
