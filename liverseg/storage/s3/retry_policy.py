"""Waiting for a server that is away: how long an outage may hold up its requests."""

import time
from collections.abc import Callable

from liverseg.storage.outage_log import OutageLog

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


class RetryPolicy(OutageLog):
    """What all requests to one server share: the time that an outage may cost, and its log.

    When an outage has lasted for `seconds`, a request is tried once: its caller knows by then, and
    has something better to do than to wait as long again.

    Args:
        seconds: How long a request is repeated after the first failure of an outage.
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
        super().__init__(server, monotonic)
        self.seconds, self.sleep = seconds, sleep


class Attempts:
    """The attempts of one request: a pause after each failure, until the policy gives up."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._first: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def again(self, cause: str) -> bool:
        """Wait after a failure and return True; False when `policy.seconds` have gone by."""
        now = self._policy.monotonic()
        began = self._policy.failed(cause)
        # Other requests may succeed in between, and with each of them the outage is another one.
        self._first = min(began, now if self._first is None else self._first)
        left = self._first + self._policy.seconds - now
        if left <= 0:
            return False
        self._policy.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True
