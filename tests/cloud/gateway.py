r"""A stand-in for Google Cloud Storage on loopback, which also breaks when it is told to.

    python tests/cloud/gateway.py FOLDER --seconds 300

Starts gcp-storage-emulator in memory and one port before it, for two kinds of clients: plain HTTP
(`STORAGE_EMULATOR_HOST`), and a proxy (`https_proxy`) whose CONNECT leads to TLS under a CA made
anew in FOLDER/ca.pem (`CURL_CA_BUNDLE`), for TensorFlow, which knows no address but Google's.
Prints its port. Ends after `--seconds`, or when its stdin is closed.

`cloud.rules` mends what the emulator does otherwise than the service, `cloud.faults` breaks what it
answers. `POST /_gateway` takes a JSON list of faults in place of those before; `GET` tells how
often each was met, and of all requests since.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gcp_storage_emulator.server import create_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from cloud.certificates import make_certificates
from cloud.faults import Fault, Faults
from cloud.rules import Answer, Request, Rules

HOST = "127.0.0.1"


class Gateway(ThreadingHTTPServer):
    """Serves each connection by a thread, and asks the emulator one request at a time."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__((HOST, 0), Handler)
        self._emulator = create_server(HOST, 0, in_memory=True, default_bucket="bucket")
        self._emulator.start()
        self._port = self._emulator._api._httpd.server_address[1]
        self._lock = threading.Lock()
        self._rules = Rules(self._ask)
        self.faults = Faults()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(make_certificates(folder))

    def answer(self, request: Request) -> Answer:
        """What the service would say."""
        with self._lock:
            return self._rules.answer(request)

    def _ask(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            headers = {**request.headers, "Content-Length": str(len(request.body))}
            connection.request(request.method, request.target, request.body, headers)
            found = connection.getresponse()
            kept = ("content-type", "content-range", "location", "range", "x-goog-hash")
            headers = {name: value for name, value in found.getheaders() if name.lower() in kept}
            return Answer(found.status, headers, found.read())
        except (http.client.HTTPException, OSError) as error:  # it drops what it fails at
            return Answer.error(500, f"the emulator failed: {error}")
        finally:
            connection.close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that left is no news
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """Requests of one client, behind CONNECT those within its tunnel."""

    protocol_version = "HTTP/1.1"
    timeout = 120
    server: Gateway
    _is_tunnel = False

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection, self._is_tunnel = False, True

    def handle_expect_100(self) -> bool:
        """Says "go on" at once: kept in a tunnel's buffer, it costs curl a second an upload."""
        is_wanted = super().handle_expect_100()
        self.wfile.flush()
        return is_wanted

    def handle_any(self) -> None:
        """One request, of whatever method."""
        if self.path == "/_gateway":
            self._control()
            return
        fault = self.server.faults.meet(f"{self.command} {self.path}")
        kind = fault.kind if fault else None
        if kind == "reset_upload":
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self._reset()
            return
        body = self._read_body()
        if kind == "delay":
            time.sleep(fault.seconds)
        if kind == "status":
            self._send(Answer.error(fault.status, "as it was told"))
            return
        headers = {
            name.title(): value
            for name, value in self.headers.items()
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "expect")
        }
        answer = self.server.answer(Request(self.command, self.path, headers, body))
        if self._is_tunnel and "Location" in answer.headers:
            location = answer.headers["Location"].replace("http://", "https://", 1)
            answer.headers["Location"] = location
        if kind == "lose_answer":
            self._reset()
        elif kind in ("reset_download", "truncate"):
            self._send(answer, cut=True)
            self._reset() if kind == "reset_download" else self._hang_up()
        else:
            self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _control(self) -> None:
        if self.command == "POST":
            faults = [Fault(**table) for table in json.loads(self._read_body())]
            self.server.faults.replace(faults)
        told = json.dumps(self.server.faults.told()).encode()
        self._send(Answer(200, {"Content-Type": "application/json"}, told))

    def _send(self, answer: Answer, cut: bool = False) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True

    def _reset(self) -> None:
        """As a router does that has lost the connection: no farewell, what is under way is lost."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # Not through TLS, which would say goodbye.
        socket.socket(fileno=self.connection.detach()).close()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        with contextlib.suppress(OSError):
            self.connection.close()

    def log_message(self, *told: object) -> None:
        """Nothing: the requests are kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    flags = parser.parse_args()
    gateway = Gateway(flags.folder)
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    print(gateway.server_address[1], flush=True)
    watch = threading.Thread(target=sys.stdin.read, daemon=True)
    watch.start()
    watch.join(flags.seconds)
    os._exit(0)  # the emulator's thread would go on


if __name__ == "__main__":
    main()
