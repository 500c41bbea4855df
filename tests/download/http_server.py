"""A small HTTP server on this machine whose faults are scripted."""

import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from stages.download import moving, session


class Drop(NamedTuple):
    """Send so many bytes of the body, then end the connection."""

    after: int


class Stall(NamedTuple):
    """Send so many bytes of the body, then nothing until the server is closed."""

    after: int


class Status(NamedTuple):
    """Answer with an error."""

    code: int
    retry_after: str | None = None


class Length(NamedTuple):
    """State another Content-Length than the body's; None states none."""

    stated: int | None


class Redirect(NamedTuple):
    location: str


class Change(NamedTuple):
    """Serve other bytes under another ETag from this request on."""

    data: bytes
    etag: str | None


Fault = Drop | Stall | Status | Length | Redirect | Change


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    agent: str | None
    encoding: str | None


class FileServer:
    """Serves bytes by path: `with FileServer() as server: server.serve("/a", b"...")`.

    Attributes:
        ranges: whether parts are served.
        heeds_if_range: whether a part of another version is refused.
        requests: all so far.
        sent: bytes of bodies so far.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.ranges = True
        self.heeds_if_range = True
        self.requests: list[Request] = []
        self.sent = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"files": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    def __enter__(self) -> "FileServer":
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(self, path: str, data: bytes, *, etag: str | None = '"1"', **headers):
        """Serve bytes; return their URL. `Last_Modified="..."` adds a header."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        if etag is not None:
            extra["ETag"] = etag
        self.files[path] = data, extra
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def fail(self, path: str, *faults: Fault) -> None:
        """Let the next requests of a path fail, one fault each."""
        self.faults[path].extend(faults)

    def asked(self) -> list[str | None]:
        """The ranges that were asked for."""
        return [request.range for request in self.requests]

    def note(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            faults = self.faults[request.path]
            return faults.popleft() if faults else None

    def count(self, size: int) -> None:
        with self._lock:
            self.sent += size


@contextmanager
def quick_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server, and a client that does not wait long between its tries."""
    monkeypatch.setattr(moving, "BACKOFF_SECONDS", 0.01)
    session.session.cache_clear()
    with FileServer() as server:
        yield server
        session.session().close()
        session.session.cache_clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_details: object) -> None:
        """Say nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_details: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        names = ("Range", "If-Range", "User-Agent", "Accept-Encoding")
        request = Request(self.command, path, *map(self.headers.get, names))
        fault = self.files.note(request)
        if isinstance(fault, Change):
            self.files.serve(path, fault.data, etag=fault.etag)
        if isinstance(fault, Redirect):
            self._head(302, {"Location": fault.location}, 0)
        elif isinstance(fault, Status):
            wait = fault.retry_after
            self._head(fault.code, {"Retry-After": wait} if wait else {}, 0)
        elif path not in self.files.files:
            self._head(404, {}, 0)
        else:
            self._send(request, fault)

    def _send(self, request: Request, fault: Fault | None) -> None:
        data, headers = self.files.files[request.path]
        span = self._span(request, len(data), headers)
        code, body = 200, data
        if span is not None:
            first, last = span
            code, body = 206, data[first : last + 1]
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
            if first >= len(data):
                total = {"Content-Range": f"bytes */{len(data)}"}
                return self._head(416, total, 0)
        stated = fault.stated if isinstance(fault, Length) else len(body)
        self._head(code, headers, stated)
        if request.method == "HEAD":
            return None
        if isinstance(fault, Drop | Stall):
            body = body[: fault.after]
        self.files.count(len(body))
        self.wfile.write(body)
        if isinstance(fault, Stall):
            self.files.closing.wait(30)
        if fault is not None:
            self.close_connection = True
        return None

    def _span(self, request: Request, size: int, headers: dict[str, str]):
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.range or "")
        names = headers.get("ETag"), headers.get("Last-Modified")
        if found is None or not self.files.ranges:
            return None
        asked = request.if_range if self.files.heeds_if_range else None
        if asked is not None and asked not in names:
            return None
        first, last = found.groups()
        if not first:
            return max(0, size - int(last)), size - 1
        return int(first), min(int(last or size), size - 1)

    def _head(self, code: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
