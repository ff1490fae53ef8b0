"""The lease on a study: who may act for it, and how long a challenger has to wait.

The holder is alive while its heartbeat changes, on the observer's own monotonic clock: two
machines' clocks are never compared. Two that take a study at the same moment are told apart by the
generation and by who wrote last: the loser is fenced when it renews.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass

from liverseg.errors import Fenced, StoreError, StudyError, StudyHeld
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.study import Study, stored_nonce
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

# Far below the grace after which trainers take themselves for orphans (30 min).
RENEW_SECONDS = 10.0
# A heartbeat that has not changed for so long has no controller any more.
HEARTBEAT_TIMEOUT_SECONDS = 60.0
# How long a controller waits for another one to end.
WAIT_SECONDS = 600.0
_POLL_SECONDS = 2.0


def may_take(
    heartbeat: Heartbeat | None, nonce: str, unchanged_seconds: float, owner_is_dead: bool
) -> bool:
    """Return whether nobody holds the study of this nonce.

    `unchanged_seconds`: for how long the taker has seen `heartbeat` as it is.
    """
    return (
        heartbeat is None
        or heartbeat.nonce != nonce
        or heartbeat.released
        or owner_is_dead
        or unchanged_seconds >= HEARTBEAT_TIMEOUT_SECONDS
    )


@dataclass(eq=False)
class Lease:
    """One controller's hold on a study, recorded in heartbeat.json.

    `renew` and `beat` may be called from two threads.
    """

    store: ObjectStore
    study: Study
    _: KW_ONLY
    clock: Callable[[], float]
    """Unix time, for whoever reads the heartbeat."""
    monotonic: Callable[[], float]
    """Seconds, for everything that is decided here."""
    process: str = ""
    """Identity of this process, which `is_dead` understands on the same machine."""
    is_dead: Callable[[str], bool] = lambda _: False
    """Whether the process of a heartbeat is known to have ended."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._written = 0.0
        self._state = "running"
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.held = False
        """Whether this controller holds the lease, as far as it knows."""
        self.generation = 0
        """Of the lease that this controller holds, or held last; 0: it never held one."""
        self.waiting: Mapping[str, str] = {}
        """What jobs wait for, recorded with the next heartbeat."""

    def acquire(
        self,
        sleep: Callable[[float], None],
        take_over: bool = False,
        waits: Callable[[Heartbeat], None] = lambda _: None,
    ) -> None:
        """Hold the study once nobody else does; with `take_over` at once.

        `waits` is called once for each holder, with its heartbeat. Raises StudyHeld after ten
        minutes, StudyError where the study was deleted meanwhile.
        """
        began = since = self.monotonic()
        seen, announced = None, ""
        while True:
            heartbeat = facts.read_heartbeat(self.store, self.study.id)
            now = self.monotonic()
            if heartbeat != seen:
                seen, since = heartbeat, now
            dead = heartbeat is not None and self.is_dead(heartbeat.process)
            # Written by an earlier call, which then found the store away.
            own = self._is_mine(heartbeat)
            if take_over or own or may_take(heartbeat, self.study.nonce, now - since, dead):
                if self._take(heartbeat):
                    return
                take_over = False  # somebody was faster
                continue
            assert heartbeat is not None
            if now - began >= WAIT_SECONDS:
                raise StudyHeld(
                    f"study {self.study.id} is run by {heartbeat.owner} (lease generation "
                    f"{heartbeat.generation}), which still held it after {WAIT_SECONDS / 60:.0f} "
                    "minutes; wait until it has ended, or start again with --take-over"
                )
            if heartbeat.owner != announced:
                waits(heartbeat)
                announced = heartbeat.owner
            sleep(_POLL_SECONDS)

    def renew(self) -> None:
        """Say that the controller lives; raises Fenced, or StudyError if the study was deleted."""
        with self._lock:
            now = facts.read_heartbeat(self.store, self.study.id)
            mine = self._is_mine(now)
            if not mine:
                # An older controller may have renewed between its own look and our taking over.
                if now is None or now.nonce != self.study.nonce:
                    self._require_current()
                elif now.generation >= self.generation:
                    self.held = False
                    raise Fenced(
                        f"study {self.study.id} was taken over by another controller "
                        f"({now.owner}, lease generation {now.generation}; this one has "
                        f"{self.generation}); its trainers continue there"
                    )
            if not mine or self.monotonic() - self._written >= RENEW_SECONDS:
                self._write()

    def beat(self) -> None:
        """As `renew`, for a thread beside the controller; nothing before and after the lease."""
        with self._lock:
            if self.held:
                self.renew()

    def say(self, state: str) -> None:
        """Record what the controller does."""
        with self._lock:
            self._state = state
            self._write()

    def release(self) -> None:
        """Say that nobody has to wait for this controller; nothing where it has lost the lease."""
        with self._lock:
            self.held = False
            if self.generation and self.is_mine():
                self.waiting = {}
                self._write(released=True)

    def is_mine(self) -> bool:
        """Return whether the heartbeat in the store is this controller's."""
        return self._is_mine(facts.read_heartbeat(self.store, self.study.id))

    @contextmanager
    def released_at_the_end(self) -> Iterator[None]:
        """Release the lease however the block ends, if the store lets it."""
        try:
            yield
        except (Exception, KeyboardInterrupt, SystemExit):
            with suppress(StoreError):
                self.release()
            raise
        with suppress(StoreError):
            self.release()

    def _take(self, before: Heartbeat | None) -> bool:
        """Write the next generation; return whether it is still there a moment later."""
        with self._lock:
            # A study that was deleted while this one waited would come to life again.
            self._require_current()
            self.generation = before.generation + 1 if before else 1
            self._write()
            self.held = self.is_mine()
            return self.held

    def _require_current(self) -> None:
        """Raise where the store no longer has the study as it was opened."""
        nonce = stored_nonce(self.store, self.study.id)
        if nonce == self.study.nonce:
            return
        self.held = False
        if nonce is None:
            raise StudyError(f"study {self.study.id} was deleted while this controller ran it")
        raise Fenced(
            f"study {self.study.id} was deleted and opened anew while this controller was at "
            f"work (nonce {nonce}, this one has {self.study.nonce}); start again to run that one"
        )

    def _is_mine(self, heartbeat: Heartbeat | None) -> bool:
        return heartbeat is not None and heartbeat.owner == self.owner

    def _write(self, released: bool = False) -> None:
        now = self.monotonic()
        beat = Heartbeat(
            generation=self.generation,
            owner=self.owner,
            nonce=self.study.nonce,
            time=self.clock(),
            state=self._state,
            waiting=dict(self.waiting),
            process=self.process,
            released=released,
        )
        record.write(self.store, facts.heartbeat_key(self.study.id), beat.to_mapping())
        # Not before: a store that was away has not heard it.
        self._written = now
