"""HTTP that repeats a request whose reply was lost or that found the server away."""

import ssl
from typing import Any

import urllib3
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as NoAnswerInTime
from urllib3.response import BaseHTTPResponse

from liverseg.platform.proxies import Proxy
from liverseg.storage.s3.retry_policy import Attempts, RetryPolicy

# A server that has taken the connection may need long to join the parts of a large object.
TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
CONNECTIONS = 32
# Waiting changes nothing about a certificate or an address.
NOT_RETRIED = (SSLError, LocationValueError)
AWAY_STATUSES = frozenset({429, 500, 502, 503, 504})


class RetryingPool(urllib3.PoolManager):
    """Connections that repeat requests; each request of an S3 client goes through `urlopen`.

    A request may so be done twice by the server. All of S3's may, but for a PUT that is to create
    only, whose second reply says that the key exists: see s3.py.

    Args:
        policy: How long a request is repeated.
        context: What https is checked with.
        proxy: Through which all requests go; None: to the server directly.
    """

    def __init__(
        self, policy: RetryPolicy, context: ssl.SSLContext, proxy: Proxy | None = None
    ) -> None:
        options: dict[str, Any] = {"timeout": TIMEOUT, "maxsize": CONNECTIONS}
        super().__init__(**options, ssl_context=context)
        self.policy = policy
        self._proxied: urllib3.ProxyManager | None = None
        if proxy is not None:
            headers = urllib3.make_headers(proxy_basic_auth=proxy.credentials or None)
            self._proxied = urllib3.ProxyManager(
                proxy.url, proxy_headers=headers, **options, ssl_context=context
            )

    def clear(self) -> None:
        """Close all connections."""
        super().clear()
        if self._proxied is not None:
            self._proxied.clear()

    def urlopen(  # type: ignore[override]  # the parent's hints are those of a mix-in
        self, method: str, url: str, redirect: bool = True, **arguments: Any
    ) -> BaseHTTPResponse:
        """Return the reply, whatever its status; HTTPError when the policy gives up."""
        attempts = Attempts(self.policy)
        send = super().urlopen if self._proxied is None else self._proxied.urlopen
        while True:
            try:
                response = send(method, url, redirect, retries=False, **arguments)
            except NOT_RETRIED:
                raise
            except HTTPError as exc:
                if _final(method, url) or not attempts.again(cause(exc)):
                    raise
                continue
            if response.status not in AWAY_STATUSES:
                if method == "HEAD" or arguments.get("preload_content", True):
                    self.policy.succeeded()
                return response
            if _final(method, url) or not attempts.again(f"status {response.status}"):
                return response
            response.drain_conn()
            response.release_conn()


def cause(error: HTTPError) -> str:
    """Return why a request failed, in a short text that is the same at every attempt."""
    if isinstance(error, ProxyError):
        return f"the proxy does not connect ({error.original_error})"
    if isinstance(error, SSLError):
        return f"no trusted https ({error})"
    if isinstance(error, NameResolutionError):
        return "its name is not known"
    if isinstance(error, NewConnectionError):
        refused = isinstance(error.__cause__, ConnectionRefusedError)
        return "connection refused" if refused else f"no connection ({error.__cause__})"
    if isinstance(error, NoAnswerInTime):
        return "no answer in time"
    if isinstance(error, IncompleteRead | ProtocolError):
        return "reply lost"
    return type(error).__name__


def _final(method: str, url: str) -> bool:
    """Whether the request only tidies up after an upload that has failed: not worth a wait."""
    return method == "DELETE" and "uploadId=" in url
