"""The lease on a study: of two controllers the newer one acts, the older one stops."""

import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping

from liverseg.errors import Fenced
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

# Far below the grace after which trainers take themselves for orphans (30 min).
RENEW_SECONDS = 10.0


class Lease:
    """Owner and generation in heartbeat.json; a higher one, or the same by another, fences.

    `clock` is monotonic and says when to renew; `wall` is the unix time that people read.
    """

    def __init__(
        self,
        store: ObjectStore,
        study: str,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._study = study
        self._clock, self._wall = clock, wall
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._written = 0.0
        self._state = "running"
        self.generation = 0
        self.waiting: Mapping[str, str] = {}
        """What jobs wait for, recorded with the next heartbeat."""

    def acquire(self) -> None:
        """Take the study over from whoever has it."""
        before = facts.read_heartbeat(self._store, self._study)
        self.generation = before.generation + 1 if before else 1
        self._write()

    def renew(self) -> None:
        """Say that the controller lives; Fenced if another one has taken over."""
        now = facts.read_heartbeat(self._store, self._study)
        if now is not None and now.generation >= self.generation and now.owner != self._owner:
            raise Fenced(
                f"study {self._study} was taken over by another controller ({now.owner}, lease "
                f"generation {now.generation}; this one has {self.generation}); its trainers "
                "continue there"
            )
        # An older controller may have renewed between its own look and our taking over.
        overwritten = now is None or now.owner != self._owner
        if overwritten or self._clock() - self._written >= RENEW_SECONDS:
            self._write()

    def say(self, state: str) -> None:
        """Record what the controller does, for whoever looks at the study."""
        self._state = state
        self._write()

    def _write(self) -> None:
        now = self._clock()
        beat = Heartbeat(
            self.generation, self._owner, self._wall(), self._state, dict(self.waiting)
        )
        record.write(self._store, facts.heartbeat_key(self._study), beat.to_mapping())
        # Not before: a store that was away has not heard it.
        self._written = now
