"""What only a trainer's own process knows: how fast it trains, and what it waits for.

Its GPU time is in the facts; these series end with its process.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from liverseg.race.records.job import Attempt
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.measured_store import MeasuredStore, StoreMetrics

_ITERATION_BUCKETS = (0.03, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_CHECKPOINT_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_NOTHING = (0, 0.0, 0.0)
GAUGES = {
    "loss": "Mean training loss since the last validation.",
    "validation_jaccard": "Mean Jaccard of the last validation, 0 to 1.",
    "last_checkpoint_timestamp_seconds": "Unix time of the last committed checkpoint.",
    "reached_iterations": "Iterations trained so far, counted from the start of the training.",
    "target_iterations": "Iterations to train to, counted from the start of the training.",
}


class Pace(Protocol):
    """What a training has done since its last validation (network/training.py)."""

    loss_sum: float
    iterations: int
    seconds: float
    timed: int
    waited: float


class Validated(Protocol):
    """A validation (network/training.py)."""

    @property
    def jaccard(self) -> float:
        """Mean over the cases, 0 to 1."""

    @property
    def loss(self) -> float:
        """Mean training loss since the validation before."""

    @property
    def seconds_per_iteration(self) -> float:
        """Of the iterations since the validation before."""

    @property
    def waiting_share(self) -> float:
        """Share of those seconds spent waiting for patches."""


class TrainerMetrics:
    """The metrics of one attempt, in a registry of its own. `clock` is unix time."""

    def __init__(self, study: str, attempt: Attempt, clock: Callable[[], float]) -> None:
        disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        self._clock = clock
        self._gauges: dict[str, Gauge] = {}
        self.labels = {
            "study": study,
            "seed": str(attempt.seed),
            "rung": str(attempt.rung),
            "attempt": str(attempt.attempt),
        }
        self._store = StoreMetrics(registry, self.labels)

        def counter(name: str, text: str) -> Counter:
            made = Counter(f"liverseg_trainer_{name}", text, list(self.labels), registry=registry)
            return made.labels(**self.labels)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            names = list(self.labels)
            name = f"liverseg_trainer_{name}"
            made = Histogram(name, text, names, registry=registry, buckets=buckets)
            return made.labels(**self.labels)

        self._iterations = counter("iterations_total", "Iterations of this process.")
        self._waited = counter(
            "data_wait_seconds_total", "Seconds in which the network waited for patches."
        )
        self._bytes = counter("checkpoint_bytes_total", "Bytes of committed checkpoints.")
        self._seconds = histogram(
            "iteration_seconds",
            "Seconds of an iteration, its wait for patches included.",
            _ITERATION_BUCKETS,
        )
        self._saving = histogram(
            "checkpoint_seconds", "Seconds to commit a checkpoint.", _CHECKPOINT_BUCKETS
        )
        # What the training had done since its last validation when it was looked at last.
        self._before = _NOTHING

    def measured(self, store: ObjectStore) -> ObjectStore:
        """Return the store with its requests noted here."""
        return MeasuredStore(store, self._store)

    def set(self, name: str, value: float) -> None:
        """Set a gauge of GAUGES, which is absent before."""
        gauge = self._gauges.get(name)
        if gauge is None:
            full, names = f"liverseg_trainer_{name}", list(self.labels)
            made = Gauge(full, GAUGES[name], names, registry=self.registry)
            gauge = self._gauges[name] = made.labels(**self.labels)
        gauge.set(value)

    def iterated(self, pace: Pace) -> None:
        """Note an iteration that no validation followed."""
        if pace.timed > self._before[0]:
            self._note(pace.timed, pace.seconds, pace.waited)
            self.set("loss", pace.loss_sum / max(pace.iterations, 1))

    def validated(self, validation: Validated) -> None:
        """Note a validation and the iteration before it; from here on the pace counts anew."""
        timed = self._before[0] + 1
        seconds = validation.seconds_per_iteration * timed
        self._note(timed, seconds, validation.waiting_share * seconds)
        self._before = _NOTHING
        self.set("loss", validation.loss)
        self.set("validation_jaccard", validation.jaccard)

    @contextmanager
    def saving(self, size: int) -> Iterator[None]:
        """Note the checkpoint of `size` bytes that the block commits, if it does."""
        start = time.perf_counter()
        yield
        self._saving.observe(time.perf_counter() - start)
        self._bytes.inc(size)
        self.set("last_checkpoint_timestamp_seconds", self._clock())

    def _note(self, timed: int, seconds: float, waited: float) -> None:
        _, seconds_before, waited_before = self._before
        self._iterations.inc()
        self._seconds.observe(max(0.0, seconds - seconds_before))
        self._waited.inc(max(0.0, waited - waited_before))
        self._before = timed, seconds, waited
