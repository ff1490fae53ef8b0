"""Serves metrics over HTTP in threads of its own, whatever its clients do.

/metrics (text or OpenMetrics, as the Accept header asks), /healthz and /readyz. No client can stop
the process that is measured: threads are daemons, connections are few and live for seconds.
"""

import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from liverseg.errors import reason

log = logging.getLogger("liverseg")
MOST_CONNECTIONS = 16
# A new connection waits so long for another one to end, and one that has not sent its request for
# so long makes room.
QUEUE_SECONDS, IDLE_SECONDS = 2.0, 0.5
# Who asks while the metrics are being computed waits so long for them: as long as Prometheus does.
SHARE_SECONDS = 10.0
# A client that sends or takes nothing for so long is let go of, and any client after so long.
STALL_SECONDS, LIFE_SECONDS = 5.0, 15.0
# What was rendered is given to whoever asks again.
FRESH_SECONDS = 1.0
_OPENMETRICS = "application/openmetrics-text"
_TEXT = "text/plain; charset=utf-8"
_TOO_MANY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class MetricsServer:
    """Serves a collector at `host`:`port` from the `with` statement's beginning to its end.

    Port 0 is any that is free. `ready` says whether what is measured does its work.

    Raises OSError where it cannot listen there.
    """

    def __init__(
        self,
        collector: Collector,
        host: str,
        port: int,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._server = _Server(host, port, collector, ready)
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def __enter__(self) -> "MetricsServer":
        run = self._server.serve_forever
        threading.Thread(target=run, name="metrics", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(
    collector: Collector, host: str, port: int, ready: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Serve a process's metrics while the block runs; at port 0, or a port in use, do not.

    What is measured is worth more than its metrics, so that a port in use is only logged: that of
    a controller that was killed may still be taken when the next one starts.
    """
    if not port:
        yield
        return
    try:
        server = MetricsServer(collector, host, port, ready)
    except OSError as error:
        log.warning(
            "no metrics: cannot listen at port %d of %s: %s; choose another --metrics-port",
            port,
            host,
            error.strerror or error,
        )
        yield
        return
    with server:
        log.info("metrics: %s", server.url)
        yield


class _Server(HTTPServer):
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, collector: Collector, ready: Callable[[], bool]
    ) -> None:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self.pages = _Pages(collector)
        self.ready = ready
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        self._idle: dict[socket.socket, float] = {}
        super().__init__((str(address[0]), int(address[1])), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; when there are too many, wait for one, and then refuse."""
        deadline = time.monotonic() + QUEUE_SECONDS
        while not self._slots.acquire(timeout=0.05):
            self._end_older(self._idle, IDLE_SECONDS)
            if time.monotonic() > deadline:
                with suppress(OSError):
                    request.send(_TOO_MANY)
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[request] = self._idle[request] = time.monotonic()
        arguments = request, client_address
        thread = threading.Thread(target=self._answer, args=arguments, name="scrape", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process may have no more threads
            self._end(request)

    def service_actions(self) -> None:
        """End connections that have lived for too long; called twice a second."""
        self._end_older(self._open, LIFE_SECONDS)

    def has_asked(self, request: socket.socket) -> None:
        """Note that a client has sent its request: it is answered."""
        with self._lock:
            self._idle.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # it went away
        finally:
            self._end(request)

    def _end(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._idle.pop(request, None)
        self.shutdown_request(request)
        self._slots.release()

    def _end_older(self, connections: dict[socket.socket, float], seconds: float) -> None:
        """Shut connections of that age, whose threads then end."""
        now = time.monotonic()
        with self._lock:
            for request, began in connections.items():
                if now - began > seconds:
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)


class _Pages:
    """What the collector collected, as text; those who ask together share one page."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._lock = threading.Lock()
        self._pages: dict[str, tuple[float, bytes]] = {}

    def page(self, accept: str) -> tuple[str, bytes]:
        """Return the content type and the bytes for an Accept header."""
        # One of two pages, whatever versions and escapings are asked for: each costs time to make.
        asked = choose_encoder(accept)[1].partition(";")[0]
        encode, content_type = choose_encoder(asked if asked == _OPENMETRICS else "")
        # Else a look that takes minutes would in the end hold all connections, /healthz's too.
        if not self._lock.acquire(timeout=SHARE_SECONDS):
            raise TimeoutError(f"the look before takes longer than {SHARE_SECONDS:g} s")
        try:
            made, page = self._pages.get(content_type, (-FRESH_SECONDS, b""))
            if time.monotonic() - made >= FRESH_SECONDS:
                page = encode(self._collector)
                self._pages[content_type] = time.monotonic(), page
            return content_type, page
        finally:
            self._lock.release()


class _Handler(BaseHTTPRequestHandler):
    timeout = STALL_SECONDS
    server: _Server
    server_version, sys_version = "liverseg", ""

    def do_GET(self) -> None:
        """Answer one request; the connection ends with it."""
        self.server.has_asked(self.connection)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer_metrics()
        elif path == "/healthz":
            self._say(HTTPStatus.OK, _TEXT, b"ok\n")
        elif path == "/readyz":
            ready = self.server.ready()
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            self._say(status, _TEXT, b"ok\n" if ready else b"not ready\n")
        else:
            self._say(HTTPStatus.NOT_FOUND, _TEXT, b"there are /metrics, /healthz and /readyz\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log no request: they come four times a minute."""

    def _answer_metrics(self) -> None:
        try:
            content_type, page = self.server.pages.page(self.headers.get("Accept", ""))
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the race goes on
            text = f"metrics cannot be computed: {reason(error)}\n"
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, text.encode())
        else:
            self._say(HTTPStatus.OK, content_type, page)

    def _say(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
