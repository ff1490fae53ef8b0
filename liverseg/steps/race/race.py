"""The race as a step: run it up to a rung or to its end, say where it stands, say what it costs."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from liverseg.core.race.halving import rank
from liverseg.errors import LiversegError
from liverseg.race.controller import Controller, Listener
from liverseg.race.decide import cost
from liverseg.race.decide.reconcile import Capacity, Until
from liverseg.race.decide.state import RungState, fold
from liverseg.race.executors.port import Executor
from liverseg.race.records import facts
from liverseg.race.records.facts import Arm
from liverseg.race.records.lease import RENEW_SECONDS
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study, load_study
from liverseg.steps.race.billing import Billing
from liverseg.storage.caching import CachingStore
from liverseg.storage.port import ObjectStore
from liverseg.telemetry import progress
from liverseg.telemetry.study_state import controller_state, is_alive

if TYPE_CHECKING:
    from liverseg.telemetry.measured_controller import ControllerMetrics


def run(
    store: ObjectStore,
    executor: Executor,
    study: Study,
    until: Until,
    capacity: Capacity,
    *,
    take_over: bool = False,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    poll_seconds: float = 0.5,
    on_event: Listener = lambda _: None,
    status_store: ObjectStore | None = None,
    billing: Billing | None = None,
    metrics: "ControllerMetrics | None" = None,
) -> dict[str, Any]:
    """Run the race until rung `until` is decided, or to its "end", or to the baseline's end.

    Args:
        store: Where the facts lie.
        executor: Runs the trainers.
        study: An opened study (race/records/study.py).
        until: Index of a rung (the last, or one beyond it, means "end"), "end" or "baseline".
        capacity: Trainers at a time, and the budget. The baseline is trained on GPUs that the
            race leaves free if it says so, and always with until "baseline".
        take_over: Fence a controller that runs the study, instead of waiting for it.
        clock: Unix time, for the heartbeat.
        monotonic: Seconds; all deadlines, so that no step of the machine's clock moves one.
        sleep: Waits the given seconds.
        poll_seconds: Between two looks at the facts.
        on_event: Told what happens, see race/controller.py.
        status_store: Where the returned status is read: a view of `store` that repeats its
            requests as long as the controller repeats its own. None: `store`.
        billing: Who pays, which is recorded once the lease is held; None: nothing is recorded.
        metrics: Where the controller notes how it does (telemetry/measured_controller.py).

    Returns:
        What `status` returns, and "started": how many trainers this call started; 0 where
        everything had been trained before.

    Raises:
        SettingsError: `capacity.gpus` is below 1.
        Stopped: The budget is spent, or somebody stopped the study.
        StudyError: No seed of a rung is left, or a trainer met other settings.
        PlatformError, StoreError: Away for more than 15 minutes, or refused for good.
        StudyHeld: Another controller runs the study, and still does after ten minutes.
        Fenced: Another controller has taken the study over.
        KeyboardInterrupt: On SIGINT or SIGTERM, after trainers that are processes of this machine
            were asked to save and end.
    """
    capacity = replace(capacity, compare_baseline=capacity.compare_baseline or until == "baseline")

    def listen(event: Mapping[str, Any]) -> None:
        if billing is not None and event["event"] == "acquired":
            billing.record(store, study, capacity, event["generation"], clock())
        on_event(event)

    controller = (Controller if metrics is None else metrics.controller)(
        store,
        executor,
        study,
        capacity,
        clock=clock,
        monotonic=monotonic,
        sleep=sleep,
        poll_seconds=poll_seconds,
        listener=listen,
    )
    with _terminated_as_interrupted(), beating(controller.lease.beat):
        controller.run(until, take_over)
    return status(status_store or store, study.id) | {"started": controller.started}


def status(store: ObjectStore, study_id: str, now: float | None = None) -> dict[str, Any]:
    """Return where a study stands at unix time `now`, ready for JSON.

    Keys: `study`; `rungs`, each with `iterations`, `seeds` (who got there), `promoted` (best
    first; at the last rung the winner), `pruned`, `failed`, `waiting`, `decided` and `reports`
    (best first: seed, attempt, jaccard, best_iteration); `winner` and `baseline`, each with `seed`,
    `jaccard`, `sha256`, `best_iteration`, `iterations` and `model`, or None; `ledger` (see
    race/decide/cost.py); `seeds`, a row per seed (telemetry/progress.py); `remaining_seconds` of
    the whole race, None before any rate is known; `heard`, unix time of the controller's last
    heartbeat, or None; `state`, what it does or did last: "not started", "running", "not
    running" (its controller has ended, or written no heartbeat for a minute before `now`),
    "ended" (there is a winner), "stopped: by hand", "stopped: budget", "resumed" (nobody has run
    it since); `controller`, the name of who runs the study, or None.
    """
    store = caching(store)
    study = load_study(store, study_id)
    snapshot = SnapshotReader(store, study.id).read()
    heartbeat = facts.read_heartbeat(store, study.id)
    state = fold(
        study.rungs, study.settings.race, snapshot, heartbeat.generation if heartbeat else 0
    )
    spans = list(snapshot.spans.values())
    best = facts.best_jaccards(store, study.id)
    waiting = heartbeat.waiting if heartbeat else {}
    now = time.time() if now is None else now
    rows = progress.rows(study, state, spans, best, waiting, now)
    return {
        "study": study.id,
        "rungs": [_rung(rung) for rung in state.rungs],
        "winner": _arm(store, study.id, "multi"),
        "baseline": _arm(store, study.id, "baseline"),
        "ledger": cost.ledger(study, snapshot),
        "seeds": [asdict(row) for row in rows],
        "remaining_seconds": progress.remaining_seconds(state, rows, spans),
        "heard": heartbeat.time if heartbeat else None,
        "controller": heartbeat.owner if heartbeat and is_alive(heartbeat, now) else None,
        "state": controller_state(heartbeat, snapshot.stopped, "multi" in snapshot.results, now),
    }


def caching(store: ObjectStore) -> ObjectStore:
    """Return a view of the store that reads no record twice; for who looks again and again."""
    if isinstance(store, CachingStore):
        return store
    return CachingStore(store, lambda key: key.endswith("/heartbeat.json"))


def _rung(rung: RungState) -> dict[str, Any]:
    ranked = rank(rung.scores)
    reports = []
    for seed in ranked:
        counted = rung.seeds[seed].report
        if counted is not None:
            entry = {"seed": seed, "jaccard": rung.scores[seed], "attempt": counted.attempt}
            reports.append(entry | {"best_iteration": counted.best_iteration})
    return {
        "iterations": rung.rung.iterations,
        "seeds": sorted(rung.seeds),
        "promoted": [seed for seed in ranked if seed in rung.gone_on],
        "pruned": list(rung.decision.pruned) if rung.decision else [],
        "failed": [seed for seed in ranked if rung.seeds[seed].lost],
        "waiting": sorted(rung.waiting),
        "decided": rung.decision is not None,
        "reports": reports,
    }


def _arm(store: ObjectStore, study_id: str, arm: Arm) -> dict[str, Any] | None:
    result = facts.read_result(store, study_id, arm)
    if result is None:
        return None
    values = result.to_mapping()
    values["sha256"] = values.pop("weights_sha256")
    return values


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every ten seconds beside the block, which may read or wait for longer."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(RENEW_SECONDS):
            # The controller meets the same at its own next look.
            with suppress(LiversegError):
                beat()

    # Not joined: after the block the lease is no longer held, and `beat` does nothing.
    threading.Thread(target=run, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the step as Ctrl-C does; only the main thread may catch signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
