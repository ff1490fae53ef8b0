"""How a trainer waits for a store that is away, and how it ends in good order."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from liverseg.errors import StoreAway
from liverseg.exit_codes import ExitCode
from liverseg.storage.outbox import Outage

log = logging.getLogger("liverseg")
Answer = TypeVar("Answer")
# Between two looks for a store without which the trainer has nothing to do.
RETRY_SECONDS = 5.0


class Stop(Exception):
    """Ends the training loop in good order; the process ends with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Waiting:
    """Waits for a store without which the trainer has nothing to do, for `orphan_grace` seconds."""

    outage: Outage
    orphan_grace: float
    sleep: Callable[[float], None]
    interrupted: bool = False

    def until_back(self, act: Callable[[], Answer]) -> Answer:
        """Return what `act` does when it no longer raises StoreAway; it must be safe to repeat.

        Raises Stop when the store has been away for `orphan_grace`, or when the trainer was asked
        to stop.
        """
        while True:
            try:
                return act()
            except StoreAway as error:
                if self.interrupted:
                    raise Stop(ExitCode.INTERRUPTED) from error
                if self.given_up(error):
                    raise Stop(ExitCode.ORPHANED) from error
                self.sleep(RETRY_SECONDS)

    def ask(self, act: Callable[[], Answer]) -> Answer:
        """Return what `act` does with the store, once it answers."""
        return self.until_back(lambda: self.outage.ask(act))

    def given_up(self, error: StoreAway) -> bool:
        """Return whether the store has been away for too long, and then say so."""
        away = self.outage.seconds
        if away > self.orphan_grace:
            log.warning("the store has been away for %.0f s, giving up: %s", away, error)
        return away > self.orphan_grace
