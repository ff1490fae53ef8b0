"""Reads the facts of a study again and again, and asks the store for as little as it can."""

import time
import zlib
from collections.abc import Callable

from liverseg.race.records import facts
from liverseg.race.records.facts import ControllerStart
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study, load_study
from liverseg.storage import record
from liverseg.storage.caching import CachingStore
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.study_facts import StudyFacts

# How often a study is looked at that rests: somebody may run it again, or delete it.
RESTING_SECONDS = 60.0
# How often all rungs are listed: a trainer that was cut off may have worked on after its rung was
# decided, and says so once it reaches the store again. Not all studies in the same look.
LISTING_SECONDS = 3600.0


class StudyReader:
    """Reads one study, one that rests once in so many `seconds`. `clock` gives unix time."""

    def __init__(
        self,
        store: ObjectStore,
        study: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        seconds: float = RESTING_SECONDS,
    ) -> None:
        self._store, self._id, self._seconds = store, study, seconds
        self._clock, self._monotonic = clock, monotonic
        self._opened: _Opened | None = None
        self._shift = zlib.crc32(study.encode()) % LISTING_SECONDS
        self._listed = 0
        self._minute, self._rests = 0, False
        self.last: StudyFacts | None = None
        """What was read last; None before the first time, and once another study has this id."""

    def read(self) -> StudyFacts:
        """Return the facts as they are; of a study that rests as they were up to a minute ago.

        Raises NotFound where it was deleted, and what else the store raises.
        """
        # Each study has its own moment: a hundred that rest are not read in the same look.
        now = self._monotonic() + self._shift
        minute = int(now // self._seconds) if self._seconds else self._minute + 1
        if self.last is not None and minute == self._minute and self._rests:
            return self.last
        spec = self._store.get(facts.spec_key(self._id))
        if self._opened is None or self._opened.spec != spec:
            # A store that was emptied may have another study of the same id.
            self._opened, self.last = _Opened(self._store, self._id, spec), None
        opened = self._opened
        if (listed := int(now // LISTING_SECONDS)) != self._listed:
            self._listed, opened.reader = listed, SnapshotReader(opened.store, self._id)
        snapshot = opened.reader.read()
        starts = opened.store.keys(facts.controllers_prefix(self._id))
        # In order of generations, which is not that of the keys' texts.
        newest = max(starts, key=lambda key: (len(key), key), default=None)
        self.last = StudyFacts(
            study=opened.study,
            snapshot=snapshot,
            heartbeat=facts.read_heartbeat(opened.store, self._id),
            failures=tuple(opened.reader.failures()),
            controller=record.read(opened.store, newest, ControllerStart) if newest else None,
        )
        self._minute, self._rests = minute, self.last.rests(self._clock())
        return self.last


class _Opened:
    """A study as its spec describes it, and what reads its facts."""

    def __init__(self, store: ObjectStore, study: str, spec: bytes) -> None:
        self.spec = spec
        self.store = CachingStore(store, lambda key: key.endswith("/heartbeat.json"))
        self.study: Study = load_study(self.store, study)
        self.reader = SnapshotReader(self.store, study)
