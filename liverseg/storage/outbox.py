"""What a trainer writes while its store is away: kept on this machine until the store is back."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from liverseg.errors import StoreAway, StoreError
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

log = logging.getLogger("liverseg")
Answer = TypeVar("Answer")
# A request to a server that is away may take its whole timeout, and the GPU waits for it: such
# requests get a tenth of the time, but one a minute.
_SHARE, _LONGEST_PAUSE = 10, 60.0


class Outage:
    """Since when a store has been away, as the one who asks it has met it.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None
        self._pause_until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the store did not answer last."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Return for how long the store has been away; 0 where it answered last."""
        return 0.0 if self._since is None else self._clock() - self._since

    @property
    def due(self) -> bool:
        """Whether the store may be asked again by somebody who has something else to do."""
        return self._since is None or self._clock() >= self._pause_until

    def ask(self, act: Callable[[], Answer]) -> Answer:
        """Return what `act` does with the store; StoreAway is noted and raised."""
        began = self._clock()
        try:
            answer = act()
        except StoreAway:
            now = self._clock()
            self._since = began if self._since is None else self._since
            self._pause_until = now + min(_SHARE * (now - began), _LONGEST_PAUSE)
            raise
        self._since = None
        return answer


class Outbox:
    """The writes of one trainer: to its store or, while that is away, to this machine.

    In order: nothing new goes to the store before what was kept. What an earlier attempt of the
    seed has left on this machine goes there too.

    Args:
        store: Where everything belongs.
        local: A store on this machine that belongs to one seed of one study.
        outage: Since when `store` has been away.
    """

    def __init__(self, store: ObjectStore, local: ObjectStore, outage: Outage) -> None:
        self._store = store
        self._local = local
        self._outage = outage
        # Until it was looked: an earlier attempt may have left something.
        self._keeps = True

    def write(self, act: Callable[[ObjectStore], object]) -> None:
        """Do `act` with the store or, while it is away, with this machine.

        Raises StoreAway where this machine has no room or no right for it either.
        """
        if self._outage.due:
            with suppress(StoreAway):
                self.flush()
                self._outage.ask(lambda: act(self._store))
                return
        self._keeps = True
        try:
            act(self._local)
        except StoreError as exc:
            raise StoreAway(f"the store is away, and this machine cannot keep it: {exc}") from exc

    def flush(self) -> None:
        """Write to the store what was kept here; raises StoreAway, and then it is kept on."""
        if not self._keeps:
            return
        try:
            kept = {key: self._local.get(key) for key in self._local.keys("")}
        except StoreError as exc:
            # Nothing of it counts yet: it is trained again, as after any other loss of a machine.
            log.warning("what was kept on this machine cannot be read: %s", exc)
            kept = {}
        # Manifests last: without one a bundle does not count.
        for key in sorted(kept, key=lambda key: key.endswith(bundle.MANIFEST)):
            self._outage.ask(partial(self._store.put, key, kept[key]))
        self._keeps = False
        for key in kept:
            with suppress(StoreError):
                self._local.delete(key)
