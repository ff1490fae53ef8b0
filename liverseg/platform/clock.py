"""The clock of one process: unix time that no step of the machine's clock moves."""

import time
from collections.abc import Callable


class Clock:
    """Unix time as it was once, counted on with a monotonic clock.

    A process that measures with it is consistent with itself: an hour is an hour, also where NTP or
    a person sets the machine's clock meanwhile.

    Args:
        offset: Unix time minus the monotonic clock, where somebody else on this machine has read
            both, such as the executor that started the process; None: as they are now.
        wall: Unix time.
        monotonic: Seconds since some moment, the same for all processes of this machine.
    """

    def __init__(
        self,
        offset: float | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic() if offset is None else offset

    def __call__(self) -> float:
        """Return the unix time."""
        return self._offset + self._monotonic()
