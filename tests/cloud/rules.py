"""Where the service does otherwise than gcp-storage-emulator, as the service does.

Preconditions on generations, pages of lists, empty objects, ranges behind the end, how far an
upload came, and the generation in the headers of a download.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

_PAGE = 5  # names; the service has 1,000
_BOUNDARY = "empty-object"


@dataclasses.dataclass
class Request:
    """As it came, its body whole."""

    method: str
    target: str  # path and query
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> list[str]:
        """The path's parts, unquoted."""
        return [unquote(part) for part in urlsplit(self.target).path.split("/")[1:]]

    @property
    def query(self) -> dict[str, str]:
        """The query's first value a key."""
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query).items()}


@dataclasses.dataclass
class Answer:
    """As it goes."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @classmethod
    def error(cls, status: int, message: str) -> Answer:
        """A refusal in the service's form."""
        told = {"error": {"code": status, "message": message}}
        return cls(status, {"Content-Type": "application/json"}, json.dumps(told).encode())


class Rules:
    """Answers by asking the emulator; one request at a time."""

    def __init__(self, ask: Callable[[Request], Answer]) -> None:
        self._ask = ask
        self._uploads: dict[str, tuple[str, str, dict[str, str]]] = {}  # by id, what each is of
        self._chunks: dict[tuple[str, str], Answer] = {}  # by id and range, what it was told
        self._last: dict[str, Answer] = {}  # by id, what its last bytes were told

    def answer(self, request: Request) -> Answer:
        """What the service would say."""
        query = request.query
        bucket, name = _object_of(request)
        conditions = query
        if query.get("upload_id") in self._uploads:
            bucket, name, conditions = self._uploads[query["upload_id"]]
            chunk = (query["upload_id"], request.headers.get("Content-Range", ""))
            if chunk in self._chunks:
                return self._chunks[chunk]  # bytes that are there already are passed over
            if _asks_how_far(request):
                return self._last.get(chunk[0], Answer(308, {}))  # no range: not one byte
            if chunk[1].endswith("/*"):
                conditions = {}  # more is to come: they are asked for when it is whole
        if refusal := self._refusal(bucket, name, conditions):
            return refusal
        if query.get("uploadType") == "media" and not request.body:
            request = _as_multipart(request, name)
        answer = self._ask(request)
        if "Location" in answer.headers and query.get("uploadType") == "resumable":
            upload_id = parse_qs(urlsplit(answer.headers["Location"]).query)["upload_id"][0]
            self._uploads[upload_id] = (bucket, name, conditions)
        if request.body and "upload_id" in query and answer.status in (200, 308):
            self._chunks[chunk] = self._last[chunk[0]] = answer
        if answer.status == 206 and not answer.body:
            return Answer.error(416, "the range is behind the end")
        if answer.status in (200, 206) and request.method == "GET" and name:
            answer.headers["X-Goog-Generation"] = str(self._generation(bucket, name))
        if answer.status == 200 and "items" in _json(answer):
            _cut_page(answer, query)
        return answer

    def _refusal(self, bucket: str, name: str, conditions: dict[str, str]) -> Answer | None:
        wanted = conditions.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != self._generation(bucket, name):
            return Answer.error(412, "conditionNotMet")
        wanted = conditions.get("generation")
        if wanted is not None and int(wanted) != self._generation(bucket, name):
            return Answer.error(404, "no such generation")
        return None

    def _generation(self, bucket: str, name: str) -> int:
        """0 for an object that is not there."""
        target = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        answer = self._ask(Request("GET", target, {}))
        return int(_json(answer)["generation"]) if answer.status == 200 else 0


def _asks_how_far(request: Request) -> bool:
    """Whether it sends nothing and asks how much of an upload is there; `*/0` sends all."""
    told = request.headers.get("Content-Range", "")
    return not request.body and told.startswith("bytes */") and told != "bytes */0"


def _object_of(request: Request) -> tuple[str, str]:
    """Bucket and name that a request is of, "" for none."""
    match request.path:
        case ["upload", "storage", "v1", "b", bucket, "o"]:
            name = request.query.get("name")
            if name is None and "upload_id" not in request.query:
                name = _metadata(request)["name"]
            return bucket, name or ""
        case ["storage" | "download", *_, "b", bucket, "o", name]:
            return bucket, name
        case ["storage", *_] | ["batch", *_] | [""]:
            return "", ""
        case [bucket, *names]:
            return bucket, "/".join(names)
    return "", ""


def _metadata(request: Request) -> dict[str, Any]:
    """What an upload says of its object: the body, or the first part of it."""
    head, blank, rest = request.body.partition(b"\r\n\r\n")
    text = (rest if blank else head).decode(errors="replace").lstrip()
    metadata: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return metadata


def _as_multipart(request: Request, name: str) -> Request:
    """An upload of nothing, which the emulator fails at, in the form that it knows."""
    body = (
        f"--{_BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': name})}\r\n"
        f"--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n\r\n--{_BOUNDARY}--\r\n"
    )
    return Request(
        "POST",
        request.target.replace("uploadType=media", "uploadType=multipart"),
        {
            "Host": request.headers["Host"],
            "Content-Type": f"multipart/related; boundary={_BOUNDARY}",
        },
        body.encode(),
    )


def _cut_page(answer: Answer, query: dict[str, str]) -> None:
    table = _json(answer)
    start, count = int(query.get("pageToken", 0)), min(int(query.get("maxResults", _PAGE)), _PAGE)
    items = sorted(table["items"], key=lambda item: item["name"])
    table["items"] = items[start : start + count]
    if start + count < len(items):
        table["nextPageToken"] = str(start + count)
    if start:
        table.pop("prefixes", None)  # all were told on the first page
    answer.body = json.dumps(table).encode()


def _json(answer: Answer) -> dict[str, Any]:
    try:
        table = json.loads(answer.body)
    except ValueError:
        return {}
    return table if isinstance(table, dict) else {}
