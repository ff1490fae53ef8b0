"""What a store says when it is away and when it is back: one line each, whoever waits for it."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("liverseg")


class OutageLog:
    """Logs every cause of an outage once when it begins, and the end of the outage once.

    Args:
        server: How the log calls the store.
        monotonic: Clock in seconds; only differences count.
    """

    def __init__(self, server: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.server, self.monotonic = server, monotonic
        self._began: float | None = None
        self._causes: list[str] = []
        # Threads of one process share the store and meet the same outage.
        self._lock = threading.Lock()

    def failed(self, cause: str) -> float:
        """Note a failure, log it if it is the first of its cause; return when the outage began."""
        with self._lock:
            if self._began is None:
                self._began = self.monotonic()
            began = self._began
            if cause in self._causes:
                return began
            self._causes.append(cause)
        log.warning("%s: %s; waiting for it", self.server, cause)
        return began

    def succeeded(self) -> None:
        """Note that the store does its work; log how long that took."""
        with self._lock:
            if self._began is None:
                return
            away = self.monotonic() - self._began
            causes, self._causes, self._began = ", ".join(self._causes), [], None
        log.warning("%s answers again after %.1f s (%s)", self.server, away, causes)
