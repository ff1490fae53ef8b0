"""How a trainer notices that it is an orphan: no controller any more, or a successor."""

from liverseg.core.race.ledger import RungName
from liverseg.race.records import facts, spans
from liverseg.storage.port import ObjectStore


class OrphanCheck:
    """Looks at the heartbeat and for later attempts of the same seed and rung.

    Time is the trainer's own, between two sights of a new heartbeat: the controller's clock may
    differ by any amount.
    """

    def __init__(
        self,
        store: ObjectStore,
        study: str,
        nonce: str,
        seed: int,
        rung: RungName,
        attempt: int,
        orphan_grace: float,
    ) -> None:
        self._store = store
        self._study = study
        self._nonce = nonce
        self._attempt = attempt
        self._orphan_grace = orphan_grace
        self._attempts = spans.attempts_prefix(study, rung, seed)
        self._heartbeat: facts.Heartbeat | None = None
        self._changed: float | None = None

    def is_orphan(self, now: float) -> bool:
        """Return whether to save and end with 76. `now`: the trainer's clock, in seconds."""
        heartbeat = facts.read_heartbeat(self._store, self._study)
        if heartbeat is None and self._heartbeat is not None:
            return True  # the study was deleted
        if self._changed is None or heartbeat != self._heartbeat:
            self._heartbeat, self._changed = heartbeat, now
        # Without any heartbeat the trainer was started by hand.
        if heartbeat is not None and now - self._changed > self._orphan_grace:
            return True
        if heartbeat is not None and heartbeat.nonce != self._nonce:
            return True
        return self._has_successor()

    def _has_successor(self) -> bool:
        begun = self._store.keys(self._attempts)
        names = {key.removeprefix(self._attempts).partition("/")[0] for key in begun}
        attempts = (name.split("-") for name in names)
        return any(
            nonce == self._nonce and int(number) > self._attempt for number, nonce in attempts
        )
