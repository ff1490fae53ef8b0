"""The controller: read facts, decide, act; again and again until the race is where it should be.

It holds no state that is not in the store, so it may be killed at any point and started again.
It deletes nothing: a trainer that has committed a checkpoint removes older ones of its own seed,
so what remains of a pruned seed is the checkpoint that it reported with.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from liverseg.errors import (
    CaseError,
    IntegrityError,
    LiversegError,
    PlatformError,
    SettingsError,
    Stopped,
    StoreAway,
    StoreError,
    StudyError,
)
from liverseg.exit_codes import ExitCode
from liverseg.platform.process_identity import is_dead, this_process
from liverseg.race.decide.reconcile import Actions, Capacity, Until, reached, reconcile
from liverseg.race.decide.stalls import StallDetector
from liverseg.race.decide.state import LOST_ATTEMPTS, RaceState, SeedState, fold
from liverseg.race.executors.port import Executor
from liverseg.race.records import facts, spans
from liverseg.race.records.decisions import Failure
from liverseg.race.records.facts import Arm, Heartbeat
from liverseg.race.records.job import JobState, job_name, parse_job_name
from liverseg.race.records.lease import WAIT_SECONDS, Lease
from liverseg.race.records.reports import ReportKey, read_report
from liverseg.race.records.result import write_result
from liverseg.race.records.snapshot import Snapshot, SnapshotReader
from liverseg.race.records.spans import Attempt, attempt_of
from liverseg.race.records.study import Study, require_current
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

Listener = Callable[[Mapping[str, Any]], None]
Answer = TypeVar("Answer")

# A pod that waits for longer needs a word; a node that is got for it takes minutes.
WAITING_SECONDS = 60.0
# How long the platform or the store may be away: rolling updates of either take minutes.
OUTAGE_SECONDS = 900.0
# A trainer that ends with one of our own errors met something that only a person can mend; the
# next attempt would meet it too, and a race decided without that seed would be another race.
_MENDABLE: tuple[type[LiversegError], ...] = (
    SettingsError,
    CaseError,
    StoreError,
    IntegrityError,
    StudyError,
)
_STOPPING = {kind.exit_code: kind for kind in _MENDABLE} | {ExitCode.SETTINGS_DIFFER: StudyError}


class Controller:
    """Runs one study's race on an executor.

    `monotonic` (seconds; all deadlines, so that no step of the machine's clock moves one), `clock`
    (unix time, for people who read the heartbeat) and `sleep` are the only way time comes in.
    `listener` is told what happens, as {"event": "started" | "reported" | "failed" | "promoted" |
    "decided" | "finished" | "cancelled" | "waits" | "away" | "back" | "held", "seed", "rung", ...};
    "away" and "back" have "what": "platform" or "store".
    """

    def __init__(
        self,
        store: ObjectStore,
        executor: Executor,
        study: Study,
        capacity: Capacity,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        poll_seconds: float = 0.5,
        listener: Listener = lambda _: None,
    ) -> None:
        require_current(study)
        if capacity.gpus < 1:
            raise SettingsError(f"gpus ({capacity.gpus}) must be at least 1")
        self.started = 0
        """Jobs that this controller started; 0 if everything was there already."""
        self._store = store
        self._executor = executor
        self._study = study
        self._capacity = capacity
        self._sleep = sleep
        self._poll_seconds = poll_seconds
        self._listener = listener
        self._lease = Lease(
            store,
            study,
            process=this_process(),
            clock=clock,
            monotonic=monotonic,
            is_dead=is_dead,
        )
        self._reader = SnapshotReader(store, study.id)
        self._heard: set[str] | None = None
        self._monotonic = monotonic
        self._away: tuple[str, float] | None = None
        self._stalls = StallDetector()
        self._seen: set[str] = set()
        self._begun: frozenset[Attempt] = frozenset()
        self._cancelled: set[str] = set()
        self._waiting: dict[str, float] = {}

    def run(self, until: Until, take_over: bool = False) -> None:
        """Return when the race has got as far as `until`; jobs of later rungs continue to run.

        Another controller that runs the study is waited for, or with `take_over` fenced. However
        this one ends, it says so, and the next one need not wait. A platform or a store that is
        away is waited for, for 15 minutes.

        Raises StudyError where no seed is left or a trainer met other settings, StudyHeld where
        another controller runs the study, Fenced where another one has taken over, Stopped, a
        PlatformError, a StoreError, and what a trainer ended with where a person has to act.

        Whatever it raises, the trainers continue, as if it had been killed: the next controller
        adopts them, and without one they save and end. Only who stops the study, by hand or with a
        budget, means the trainers too; so does whoever interrupts a controller whose executor is
        this machine.
        """
        with self._lease.released_at_the_end():
            self._borne(lambda: self._lease.acquire(self._sleep, take_over, self._tell_holder))
            self._run(until)

    def _run(self, until: Until) -> None:
        try:
            while True:
                over, acted = self._borne(lambda: self.reconcile(until))
                if over:
                    return
                if not acted:
                    self._sleep(self._poll_seconds)
        except KeyboardInterrupt:
            with suppress(PlatformError):
                self._executor.leave(self._study.id, self._study.nonce)
            raise
        except Stopped:
            # Without an answer they find out that they are alone.
            with suppress(PlatformError, StoreError):
                self._borne(lambda: self._executor.interrupt(self._study.id, self._study.nonce))
            raise

    def take_over(self) -> None:
        """Become the study's controller: the one before, if it still lives, is fenced."""
        self._lease.acquire(self._sleep, take_over=True)

    def beat(self) -> None:
        """Renew the lease, if there is one; for a thread, as long reads and waits take longer."""
        self._lease.beat()

    def _tell_holder(self, heartbeat: Heartbeat) -> None:
        self._listener({"event": "held", "owner": heartbeat.owner, "seconds": WAIT_SECONDS})

    def reconcile(self, until: Until) -> tuple[bool, bool]:
        """Look once and act; return whether the race is there, and whether anything was done."""
        self._lease.renew()
        # Jobs before facts: a job reports and then ends. Asked the other way round, one that
        # did both in between would look like one that ended without a report.
        states = dict(self._executor.states())
        self._tell_waiting(states)
        snapshot = self._reader.read(self._attempts(states))
        if snapshot.unknown:
            states |= self._gone(snapshot.unknown)
            # Jobs before facts again: one of these may have reported and ended in between.
            snapshot = self._reader.read(self._attempts(states))
        state = fold(self._study.rungs, self._study.settings.race, snapshot, self._lease.generation)
        self._tell_reports(snapshot)
        is_reached = reached(state, snapshot, until)
        if is_reached and self._is_over(until, states, snapshot):
            return True, False
        if snapshot.stopped and not is_reached:
            self._stop(facts.STOPPED_BY_HAND, "`liverseg study resume` allows it to continue")
        actions = reconcile(
            self._study,
            state,
            snapshot,
            states,
            self._capacity,
            self._lease.generation,
            self._stalls.look(
                self._monotonic(), self._attempts(self._running(states)), snapshot.spans
            ),
            # Begun before this look: one that is admitted meanwhile is suspended, then begins.
            self._begun.intersection(self._attempts(n for n, s in states.items() if s.suspended)),
        )
        self._begun = frozenset(snapshot.spans)
        if actions.waits and not is_reached and self._capacity.exhausted(snapshot.spent_seconds):
            spent, most = snapshot.spent_seconds / 3600, self._capacity.max_gpu_hours
            reason = f"{spent:.2f} of {most:g} GPU-hours are spent; start again with a larger limit"
            self._stop("stopped: budget", reason)
        self._apply(actions, state)
        return False, bool(actions.facts or actions.jobs)

    def _is_over(self, until: Until, states: Mapping[str, JobState], snapshot: Snapshot) -> bool:
        """Return whether nothing is left to end or to record; a rung is over with its decision."""
        if until not in ("end", "baseline") and int(until) < len(self._study.rungs) - 1:
            return True
        return not any(
            parts.belongs_to(self._study.id, self._study.nonce)
            and (until == "baseline" or parts.rung != "baseline")
            and (state.running or attempt_of(parts) not in snapshot.closed)
            for name, state in states.items()
            if (parts := parse_job_name(name)) is not None
        )

    def _running(self, states: Mapping[str, JobState]) -> list[str]:
        """Return the study's running jobs, and remember that this controller has seen them."""
        running = [
            name
            for name, state in states.items()
            if state.running
            and (parts := parse_job_name(name)) is not None
            and parts.belongs_to(self._study.id, self._study.nonce)
        ]
        self._seen.update(running)
        return running

    def _attempts(self, names: Iterable[str]) -> list[Attempt]:
        """Return the attempts of this study that jobs of these names are."""
        jobs = map(parse_job_name, names)
        return [
            attempt_of(job)
            for job in jobs
            if job is not None and job.belongs_to(self._study.id, self._study.nonce)
        ]

    def _gone(self, unknown: Iterable[Attempt]) -> dict[str, JobState]:
        """Return the states of jobs that the executor did not know when it was asked.

        Asked again, since one that was started in between is among those. What it still does not
        know was deleted, or belongs to another machine: its attempt is over, and its name is not
        used again.
        """
        states = self._executor.states()
        names = [
            job_name(self._study.id, self._study.nonce, at.seed, at.rung, at.attempt)
            for at in unknown
        ]
        return {
            name: states.get(name, JobState(name, False, message="its job is gone"))
            for name in names
        }

    def _stop(self, state: str, reason: str) -> None:
        """Let the study rest; what runs is asked to save and end by `run`."""
        self._lease.waiting = {}
        self._lease.say(state)
        raise Stopped(f"{state}: {reason}")

    def _borne(self, act: Callable[[], Answer]) -> Answer:
        """Return what `act` does, once platform and store answer; act must be safe to repeat."""
        while True:
            try:
                answer = act()
            except (PlatformError, StoreAway) as error:
                self._bear(error)
            else:
                self._back()
                return answer

    def _bear(self, error: PlatformError | StoreAway) -> None:
        """Wait while the platform or the store is away; after 15 minutes it is the user's turn."""
        what, now = "store" if isinstance(error, StoreAway) else "platform", self._monotonic()
        if self._away is None or self._away[0] != what:
            self._back()
            self._away = what, now
            self._listener({"event": "away", "what": what, "reason": str(error)})
        if now - self._away[1] > OUTAGE_SECONDS:
            raise error
        self._sleep(self._poll_seconds)

    def _back(self) -> None:
        if self._away is not None:
            what, since = self._away
            seconds = self._monotonic() - since
            self._listener({"event": "back", "what": what, "seconds": seconds})
            self._away = None

    def _apply(self, actions: Actions, state: RaceState) -> None:
        for failure in actions.failures:
            key = facts.failure_key(self._study.id, failure.rung, failure.seed, failure.attempt)
            self._record(key, "failed", failure.to_mapping())
        for ended in actions.closed:
            self._close(ended)
        self._stop_if_mending_is_needed(actions.failures, state)
        for promotion in actions.promotions:
            key = facts.promotion_key(self._study.id, promotion.rung, promotion.seed)
            self._record(key, "promoted", promotion.to_mapping())
        for decision in actions.decisions:
            key = facts.decision_key(self._study.id, decision.rung)
            self._record(key, "decided", decision.to_mapping())
        for arm in actions.results:
            report = read_report(self._store, self._study.id, _final_report(state, arm))
            result = write_result(self._store, self._study, arm, report)
            self._listener({"event": "finished", "arm": arm} | result.to_mapping())
        for job in actions.jobs:
            self._seen.add(job.name)
            attempt = Attempt(job.rung_name, job.seed, job.attempt)
            if self._store.keys(spans.span_prefix(self._study, attempt)):
                # Begun, and its job gone since the executor was asked: for the next reconcile.
                continue
            if self._executor.submit(job):
                self.started += 1
                who = {"seed": job.seed, "rung": job.rung_name, "attempt": job.attempt}
                self._listener({"event": "started", "iterations": job.iterations} | who)
        for name in actions.cancelled:
            self._executor.cancel(name)
            parts = parse_job_name(name)
            # Asked again at every reconcile until it has ended, but reported once.
            if parts is not None and name not in self._cancelled:
                self._cancelled.add(name)
                who = {"seed": parts.seed, "rung": parts.rung, "attempt": parts.attempt}
                self._listener({"event": "cancelled"} | who)

    def _record(self, key: str, event: str, values: Mapping[str, Any]) -> None:
        """Write a fact once; another controller may have been faster with the same one."""
        record.write_new(self._store, key, values)
        self._listener({"event": event} | dict(values))

    def _close(self, job: JobState) -> None:
        """Record from and until when an ended job occupied a GPU, as its platform tells it."""
        parts = parse_job_name(job.name)
        assert parts is not None
        event = spans.closed(job.started, job.ended, job.exit_code)
        spans.write(self._store, self._study, attempt_of(parts), event)

    def _stop_if_mending_is_needed(self, failures: tuple[Failure, ...], state: RaceState) -> None:
        for failure in failures:
            kind = _STOPPING.get(failure.exit_code or 0)
            seed_state = state.seed_state(failure.seed, failure.rung)
            # One node without a way to the store is not the store: that nothing got any further
            # in as many attempts as a seed has does tell.
            if kind is StoreError and seed_state is not None and not _is_last(failure, seed_state):
                continue
            attempt = (failure.seed, failure.rung, failure.attempt)
            # What stopped an earlier controller may have been mended since.
            name = job_name(self._study.id, self._study.nonce, *attempt)
            if kind is not None and name in self._seen:
                raise kind(
                    f"the trainer of seed {failure.seed} at rung {failure.rung} cannot continue: "
                    f"{failure.reason}; the other trainers continue, `liverseg study stop` ends "
                    "them"
                )

    def _tell_waiting(self, states: Mapping[str, JobState]) -> None:
        """Record what jobs wait for, and tell the listener, once, of those that wait for long."""
        running = self._running(states)
        self._lease.waiting = {n: states[n].waits_for for n in running if states[n].waits_for}
        now = self._monotonic()
        self._waiting = {name: self._waiting.get(name, now) for name in self._lease.waiting}
        for name, since in self._waiting.items():
            parts = parse_job_name(name)
            if now - since >= WAITING_SECONDS and parts is not None:
                who = {"seed": parts.seed, "rung": parts.rung, "attempt": parts.attempt}
                self._listener({"event": "waits", "reason": self._lease.waiting[name]} | who)
                self._waiting[name] = math.inf

    def _tell_reports(self, snapshot: Snapshot) -> None:
        """Tell the listener what was reported since the last reconcile."""
        reported = {report.sha256 for report in snapshot.reports}
        for report in snapshot.reports:
            if self._heard is not None and report.sha256 not in self._heard:
                jaccard = report.score(self._study.settings.race.rung_metric)
                who = {"seed": report.seed, "rung": report.rung, "attempt": report.attempt}
                self._listener({"event": "reported", "jaccard": jaccard} | who)
        self._heard = reported


def _is_last(failure: Failure, seed_state: SeedState) -> bool:
    """Return whether the seed has failed in the same way as often as it may."""
    alike = [
        f
        for f in seed_state.failures
        if (f.exit_code, f.generation) == (failure.exit_code, failure.generation)
    ]
    return len(alike) + 1 >= LOST_ATTEMPTS


def _final_report(state: RaceState, arm: Arm) -> ReportKey:
    """Return the report that an arm ends with."""
    seed_state = state.baseline
    if arm == "multi":
        last = state.rungs[-1]
        assert last.decision is not None
        seed_state = last.seeds[last.decision.promoted[0]]
    assert seed_state.report is not None
    return seed_state.report
