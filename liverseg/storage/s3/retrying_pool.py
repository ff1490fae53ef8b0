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
    SSLError,
)
from urllib3.exceptions import TimeoutError as NoAnswerInTime
from urllib3.response import BaseHTTPResponse

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
        ca_bundle: File of PEM certificates to check https against; None: the system's. OSError
            where it is no such file.
    """

    def __init__(self, policy: RetryPolicy, ca_bundle: str | None = None) -> None:
        context = ssl.create_default_context(cafile=ca_bundle)
        super().__init__(timeout=TIMEOUT, maxsize=CONNECTIONS, ssl_context=context)
        self.policy = policy

    def urlopen(  # type: ignore[override]  # the parent's hints are those of a mix-in
        self, method: str, url: str, redirect: bool = True, **arguments: Any
    ) -> BaseHTTPResponse:
        """Return the reply, whatever its status; HTTPError when the policy gives up."""
        attempts = Attempts(self.policy)
        while True:
            try:
                response = super().urlopen(method, url, redirect, retries=False, **arguments)
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
