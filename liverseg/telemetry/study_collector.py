"""The metrics of every study in a store, computed when somebody asks for them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from liverseg.errors import LiversegError, NotFound, StoreAway, reason
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.gpu_time import gpu_time
from liverseg.telemetry.metrics import Sample, families
from liverseg.telemetry.race_progress import race_progress
from liverseg.telemetry.study_facts import StudyFacts
from liverseg.telemetry.study_reader import RESTING_SECONDS, StudyReader

log = logging.getLogger("liverseg")
# For how long a result is given to whoever asks again.
FRESH_SECONDS = 1.0
# For how long whoever asks whether it is ready waits for somebody else's look.
READY_SECONDS = 1.0


class StudyCollector(Collector):
    """Collects the metrics of one study, or (None) of all studies in the store.

    Scrapes that come together share one computation. A study whose facts cannot be read hides no
    other: its last known values are given, and `liverseg_exporter_scrape_errors` is 1.

    Args:
        store: Where the studies lie; only read.
        study: An id, or None.
        clock: Unix time.
        monotonic: Seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        study: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._study = store, study
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._readers: dict[str, StudyReader] = {}
        self._last: dict[str, tuple[StudyFacts, list[Sample]]] = {}
        self._errors: dict[str, str] = {}
        self._away = ""
        self._families: list[Metric] = []
        self._at: float | None = None

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering reads no store."""
        return []

    def collect(self) -> list[Metric]:
        """Return the families as they were at most a second ago."""
        with self._lock:
            return self._collected()

    @property
    def ready(self) -> bool:
        """Whether the store could be listed when it was read last, which happens here.

        Not while it is being read for somebody else, and takes its time.
        """
        if not self._lock.acquire(timeout=READY_SECONDS):
            return False
        try:
            self._collected()
            return "" not in self._errors
        finally:
            self._lock.release()

    def _collected(self) -> list[Metric]:
        if self._at is None or self._monotonic() - self._at >= FRESH_SECONDS:
            self._families = families(self._samples())
            self._at = self._monotonic()
        return self._families

    def _samples(self) -> Iterator[Sample]:
        self._away = ""
        ids = self._listed()
        for study in [known for known in self._readers if known not in ids]:
            self._forget(study)
        now = self._clock()
        for study in ids:
            try:
                samples = self._of(study, now)
            except NotFound:
                # Deleted, or not opened yet.
                self._forget(study)
                continue
            yield from samples
            yield _error(study, study in self._errors)
        if "" in self._errors:
            yield _error("", True)

    def _listed(self) -> list[str]:
        """Return the ids of the studies; those that are known where the store lists none."""
        if self._study is not None:
            return [self._study]
        try:
            listed = self._store.folders("studies/")
        except LiversegError as error:
            self._note("", error)
            self._away = reason(error)
            return sorted(self._readers)
        self._errors.pop("", None)
        return listed

    def _of(self, study: str, now: float) -> list[Sample]:
        """Return the samples of a study, or where it cannot be read the last known ones."""
        if study not in self._readers:
            # Whoever asks for one study only runs it.
            seconds = RESTING_SECONDS if self._study is None else 0.0
            self._readers[study] = StudyReader(
                self._store, study, self._clock, self._monotonic, seconds
            )
        before, samples = self._last.get(study, (None, []))
        if self._away:
            # It is waited for once a look, not once a study.
            self._errors[study] = self._away
            return samples
        try:
            read = self._readers[study].read()
            # Of a study that rests, what was computed once stays true.
            if read is not before:
                samples = [*gpu_time(read, now), *race_progress(read, now)]
        except NotFound:
            raise
        except Exception as error:  # noqa: BLE001 - facts that fit nothing may hide no other study
            self._note(study, error)
            self._away = reason(error) if isinstance(error, StoreAway) else ""
            return samples
        self._errors.pop(study, None)
        self._last[study] = read, samples
        return samples

    def _forget(self, study: str) -> None:
        self._readers.pop(study, None)
        self._last.pop(study, None)
        self._errors.pop(study, None)

    def _note(self, study: str, error: Exception) -> None:
        """Log an error once, until it is another one or gone."""
        text = reason(error)
        if self._errors.get(study) != text:
            self._errors[study] = text
            log.warning("metrics of %s: %s", f"study {study}" if study else "the store", text)


def openmetrics(store: ObjectStore, study: str | None = None) -> bytes:
    """Return the metrics of a study, or of all in the store, as OpenMetrics text.

    Raises what the store raises where it cannot be listed.
    """
    store.folders("studies/")
    text: bytes = generate_latest(StudyCollector(store, study))
    return text


def _error(study: str, failed: bool) -> Sample:
    return Sample("liverseg_exporter_scrape_errors", {"study": study}, failed)
