"""How a trainer notices that it is an orphan: no controller any more, or a successor."""

from liverseg.core.race.ledger import RungName
from liverseg.race.records import facts
from liverseg.race.records.job_name import job_name, parse_job_name
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
        name = job_name(study, nonce, seed, rung, attempt)
        self._attempts = facts.spans_prefix(study) + name.removesuffix(str(attempt))
        self._heartbeat: facts.Heartbeat | None = None
        self._changed: float | None = None

    def is_alone(self, now: float) -> bool:
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
        for key in self._store.keys(self._attempts):
            name = parse_job_name(key.split("/")[3])
            if name is not None and name.attempt > self._attempt:
                return True
        return False
