"""A real HTTP proxy for tests: it forwards requests and, for https, connections."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.http_server import serving

HOP_BY_HOP = ("connection", "proxy-authorization", "proxy-connection", "transfer-encoding")


class HttpProxy(ThreadingHTTPServer):
    """A proxy that resolves every name to one server of the test.

    Args:
        behind: URL of that server; None: nothing can be reached.
        credentials: What Proxy-Authorization has to be; "" for none.
    """

    daemon_threads = True

    def __init__(self, behind: str | None, credentials: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(behind or "http://127.0.0.1:1")
        self.behind = (parts.hostname or "", parts.port or 80)
        self.credentials = credentials
        self.seen: list[tuple[str, str]] = []
        """Method and URL of every request, or CONNECT and host:port."""

    @property
    def url(self) -> str:
        """What HTTP_PROXY is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["HttpProxy"]:
        with serving(self):
            yield self


class _Handler(BaseHTTPRequestHandler):
    server: HttpProxy
    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        if not self._allowed():
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        parts = urlsplit(self.path)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(*self.server.behind, timeout=30)
        try:
            connection.request(self.command, target, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self.send_error(502)
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP_BY_HOP, "content-length"):
                self.send_header(name, value)
        head = self.command == "HEAD"
        size = answer.getheader("Content-Length", "0") if head else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        if not head:
            self.wfile.write(content)

    def do_GET(self) -> None:
        self.forward()

    def do_PUT(self) -> None:
        self.forward()

    def do_POST(self) -> None:
        self.forward()

    def do_HEAD(self) -> None:
        self.forward()

    def do_DELETE(self) -> None:
        self.forward()

    def do_CONNECT(self) -> None:
        if not self._allowed():
            return
        try:
            server_side = socket.create_connection(self.server.behind, 30)
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        client_side = self.connection
        with server_side:
            while True:
                ready, _, _ = select.select([client_side, server_side], [], [], 30)
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        self.close_connection = True
                        return
                    (server_side if source is client_side else client_side).sendall(data)
                if not ready:
                    return

    def _allowed(self) -> bool:
        """Note the request; answer 407 where it lacks the credentials."""
        self.server.seen.append((self.command, self.path))
        if self.headers.get("Proxy-Authorization", "") == self.server.credentials:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, *_arguments: object) -> None:
        pass
