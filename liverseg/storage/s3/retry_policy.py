"""Waiting for a server that is away: how long, and what is said of it."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("liverseg")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


class RetryPolicy:
    """What all requests to one server share: the time that each may wait, and the log of it.

    Every cause is logged once when it begins, and once more when the server answers again.

    Args:
        seconds: How long a request is repeated after its first failure.
        server: How the log calls the server.
        monotonic: Clock in seconds; only differences count.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        seconds: float,
        server: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds, self.server = seconds, server
        self.monotonic, self.sleep = monotonic, sleep
        self._began: float | None = None
        self._causes: list[str] = []
        # Threads of one process share the store and meet the same outage.
        self._turn = threading.Lock()

    def failed(self, cause: str) -> None:
        """Note a failure; log it if it is the first of its cause."""
        with self._turn:
            if self._began is None:
                self._began = self.monotonic()
            if cause in self._causes:
                return
            self._causes.append(cause)
        log.warning("%s: %s; trying again for up to %.0f s", self.server, cause, self.seconds)

    def succeeded(self) -> None:
        """Note that the server does its work; log how long that took."""
        with self._turn:
            if self._began is None:
                return
            away = self.monotonic() - self._began
            causes, self._causes, self._began = ", ".join(self._causes), [], None
        log.warning("%s answers again after %.1f s (%s)", self.server, away, causes)


class Attempts:
    """The attempts of one request: a pause after each failure, until patience has an end."""

    def __init__(self, patience: RetryPolicy) -> None:
        self._patience = patience
        self._first: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def again(self, cause: str) -> bool:
        """Wait after a failure and return True; False when `patience.seconds` have gone by."""
        now = self._patience.monotonic()
        self._patience.failed(cause)
        if self._first is None:
            self._first = now
        left = self._first + self._patience.seconds - now
        if left <= 0:
            return False
        self._patience.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True
