"""A race whose log is for people, as tasks and `liverseg study run` run it."""

from typing import Any

from liverseg.race.decide.reconcile import Capacity, Until
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import require_prepared
from liverseg.steps.race.billing import Billing
from liverseg.steps.race.race_logger import RaceLogger, log
from liverseg.steps.race.trainer_backend import LOCAL, TrainerBackend, metrics_address
from liverseg.storage.open import open_store
from liverseg.storage.port import LocatedStore

# Prometheus waits for a scrape for 10 s.
SCRAPE_OUTAGE_SECONDS = 5.0


def open_race_store(url: str) -> LocatedStore:
    """Return the store for what precedes and follows a race, for `race_to` too.

    An outage of its server may last as long there as during the race.
    """
    from liverseg.race.controller import OUTAGE_SECONDS

    return open_store(url, outage_seconds=OUTAGE_SECONDS)


def race_to(
    store: LocatedStore,
    study: Study,
    until: Until,
    capacity: Capacity,
    backend: TrainerBackend = LOCAL,
    take_over: bool = False,
    billing: Billing | None = None,
    metrics_port: int | None = None,
) -> dict[str, Any]:
    """Run the race, logging its events and serving its metrics; return its status.

    `store` must come from `open_race_store`. If `metrics_port` is None, metrics are served at
    METRICS_PORT in a pod and not at all elsewhere.

    Raises StudyError where a case is not prepared: else every trainer would wait for a GPU
    only to find that out.
    """
    from liverseg.steps.race import race
    from liverseg.telemetry.measured_controller import ControllerMetrics
    from liverseg.telemetry.metrics_server import serving
    from liverseg.telemetry.study_collector import StudyCollector

    require_prepared(store, study.dataset)
    # A scrape waits for nothing as long as a race does, and waits alone: its store is its own.
    scraped = open_store(store.url, outage_seconds=SCRAPE_OUTAGE_SECONDS)
    metrics = ControllerMetrics(StudyCollector(scraped, study.id))
    executor, poll_seconds = backend.executor(store, study)
    logger = RaceLogger(study.rungs)
    with serving(metrics.registry, *metrics_address(metrics_port), lambda: metrics.is_ready()):
        status = race.run(
            # With the usual two minutes: the controller repeats what failed, and looks meanwhile.
            open_store(store.url),
            executor,
            study,
            until,
            capacity,
            take_over=take_over,
            poll_seconds=poll_seconds,
            on_event=logger,
            status_store=store,
            billing=billing or Billing(),
            metrics=metrics,
        )
    if not status["started"]:
        log.info("nothing to train: every seed had been trained this far before")
    return status
