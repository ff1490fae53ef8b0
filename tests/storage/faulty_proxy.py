"""A proxy between an S3 client and a server that loses, cuts, damages and refuses on demand."""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.http_server import serving

# Of one connection; the client opens a new one for the next request.
_HOP = ("connection", "keep-alive", "transfer-encoding")


@dataclass
class Fault:
    """What happens to requests.

    Args:
        kind: "lose" the reply after the server has done the work; "cut" the reply's body in the
            middle; "damage" a byte of it; "refuse": give an error, and the server hears nothing;
            "unconditional": a PUT is done by the proxy's `plain_put`, as by a server that ignores
            If-None-Match; the header is signed, so that taking it out would not do.
        method: Only to requests of that method.
        part: Only to requests whose path and query hold this.
        times: How often.
        after_bytes: Of the reply's body that are sent before it is cut off.
        meanwhile: Is called before the reply: what others do at that very moment.
        status: Of the error that refuses.
        code: S3's own name of that error.
    """

    kind: Literal["lose", "cut", "damage", "refuse", "unconditional"]
    method: str = ""
    part: str = ""
    times: float = 1
    after_bytes: int = 0
    meanwhile: Callable[[], None] | None = None
    status: int = 503
    code: str = "SlowDown"

    def hits(self, method: str, path: str) -> bool:
        """Whether it concerns this request."""
        meant = self.method in ("", method) and self.part in path
        return meant and self.times > 0

    def body(self) -> bytes:
        """Return the error as a server writes it."""
        head = '<?xml version="1.0" encoding="UTF-8"?>'
        return f"{head}<Error><Code>{self.code}</Code><Message>not now</Message></Error>".encode()


class FaultyProxy:
    """Forwards to `target` (http://host:port) but for the requests that `faults` concern."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.plain_put: Callable[[str, Mapping[str, str], bytes], None] | None = None
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault_for(self, method: str, path: str) -> Fault | None:
        """Return the first fault that hits, and count it."""
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.hits(method, path):
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        """Answer requests in threads."""
        with serving(self._server):
            yield self


class _Server(ThreadingHTTPServer):
    proxy: FaultyProxy
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go when they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Headers and body of a reply are two writes, which would wait for each other.
    disable_nagle_algorithm = True

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.server.proxy.fault_for(self.command, self.path)
        kind = fault.kind if fault else ""
        if "Range" in self.headers:
            self.server.proxy.ranges.append(self.headers["Range"])
        if fault and kind == "refuse":
            self._let_others(fault)
            self._reply(fault.status, [("Content-Type", "application/xml")], fault.body())
            return
        headers = dict(self.headers.items())
        plain_put = self.server.proxy.plain_put
        if kind == "unconditional" and plain_put is not None:
            plain_put(self.path, headers, body)
            self._reply(200, [("ETag", '"etag"')], b"")
            return
        upstream = http.client.HTTPConnection(self.server.proxy.target, timeout=60)
        try:
            upstream.request(self.command, self.path, body=body, headers=headers)
            response = upstream.getresponse()
            data = response.read()
        finally:
            upstream.close()
        if fault is not None:
            self._let_others(fault)
        if kind == "lose":
            self.close_connection = True
            return
        if kind == "damage" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        cut = fault.after_bytes if fault and kind == "cut" else None
        kept = [(k, v) for k, v in response.getheaders() if k.lower() not in _HOP]
        self._reply(response.status, kept, data, cut)

    def _let_others(self, fault: Fault) -> None:
        if fault.meanwhile is not None:
            fault.meanwhile()

    def _reply(
        self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None
    ) -> None:
        self.send_response_only(status)
        if not any(name.lower() == "content-length" for name, _ in headers) and status != 204:
            headers = [*headers, ("Content-Length", str(len(data)))]
        for name, value in headers:
            self.send_header(name, value)
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""
