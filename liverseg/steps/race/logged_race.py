"""A race whose log is for people, as tasks and `liverseg study run` run it."""

from typing import Any

from liverseg.race.decide.reconcile import Capacity, Until
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import require_prepared
from liverseg.steps.race.race_logger import RaceLogger, log
from liverseg.steps.race.trainer_backend import LOCAL, TrainerBackend
from liverseg.storage.open import open_store
from liverseg.storage.port import LocatedStore


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
) -> dict[str, Any]:
    """Run the race, logging its events; return its status.

    `store` is from `open_race_store`.

    Raises StudyError where a case is not prepared: else every trainer would wait for a GPU
    only to find that out.
    """
    from liverseg.steps.race import race

    require_prepared(store, study.dataset)
    executor, poll_seconds = backend.executor(store, study)
    logger = RaceLogger(study.rungs)
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
    )
    if not status["started"]:
        log.info("nothing to train: every seed had been trained this far before")
    return status
