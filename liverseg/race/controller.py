"""The controller: read facts, decide, act; again and again until it has reached its goal.

No decision depends on state outside the store: timers and what was already logged start afresh, so
it may be killed at any point and started again.
It deletes nothing: a trainer that has committed a checkpoint removes older ones of its own seed,
so what remains of a pruned seed is the checkpoint that it reported with.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
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
from liverseg.race.decide.state import LOST_ATTEMPTS, RaceState, fold
from liverseg.race.executors.port import Executor
from liverseg.race.records import facts, spans
from liverseg.race.records.decisions import Failure
from liverseg.race.records.facts import Fact, Heartbeat
from liverseg.race.records.job import Attempt, JobState, job_name, own_jobs
from liverseg.race.records.lease import WAIT_SECONDS, Lease
from liverseg.race.records.reports import read_report
from liverseg.race.records.result import write_result
from liverseg.race.records.snapshot import Snapshot, SnapshotReader
from liverseg.race.records.study import Study, require_current
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

Listener = Callable[[Mapping[str, Any]], None]
Answer = TypeVar("Answer")

# A pod that waits for longer is reported; provisioning a node takes minutes.
WAITING_SECONDS = 60.0
# How long the platform or the store may be away: rolling updates of either take minutes.
OUTAGE_SECONDS = 900.0
# A trainer that ends with one of our own errors met something that only a person can fix; the
# next attempt would meet it too, and a race decided without that seed would be another race.
_KINDS = (SettingsError, CaseError, StoreError, IntegrityError, StudyError)
_FIXABLE: dict[int, type[LiversegError]] = {int(kind.exit_code): kind for kind in _KINDS}
_FIXABLE[ExitCode.SETTINGS_DIFFER] = StudyError


class Controller:
    """Runs one study's race on an executor.

    `monotonic` (seconds; all deadlines, so that no step of the machine's clock moves one), `clock`
    (unix time, for people who read the heartbeat) and `sleep` are the only way time comes in.
    `listener` is told what happens, as {"event": "started" | "reported" | "failed" | "promoted" |
    "decided" | "finished" | "cancelled" | "waits" | "away" | "back" | "held" | "acquired", "seed",
    "rung", ...}; "away" and "back" have "what": "platform" or "store". Where it raises StoreAway of
    "acquired" it is told again.
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
        self._monotonic, self._sleep = monotonic, sleep
        self._poll_seconds, self._listener = poll_seconds, listener
        self.lease = Lease(
            store, study, process=this_process(), clock=clock, monotonic=monotonic, is_dead=is_dead
        )
        self._reader = SnapshotReader(store, study.id)
        self._heard: set[str] | None = None
        self._away, self._away_since = "", 0.0
        self._stalls = StallDetector()
        self._seen: set[Attempt] = set()
        self._begun: frozenset[Attempt] = frozenset()
        self._cancelled: set[Attempt] = set()
        self._waiting: dict[Attempt, tuple[float, frozenset[str]]] = {}

    def run(self, until: Until, take_over: bool = False) -> None:
        """Return when the race has got as far as `until`; jobs of later rungs continue to run.

        Another controller that runs the study is waited for, or with `take_over` fenced.

        Raises StudyError where no seed is left or a trainer met other settings, StudyHeld where
        another controller runs the study, Fenced where another one has taken over, Stopped, a
        PlatformError, a StoreError, and what a trainer ended with where a person has to act.
        Whatever it raises, the trainers continue, and the next controller adopts them. Only a
        person who stops the study ends them too, or who interrupts a controller whose executor is
        this machine; a budget that is spent starts nothing more.
        """
        with self.lease.released_at_the_end():
            self._retried(lambda: self.lease.acquire(self._sleep, take_over, self._tell_holder))
            self._retried(lambda: self._tell("acquired", generation=self.lease.generation))
            try:
                while True:
                    over, acted = self._retried(lambda: self.reconcile(until))
                    if over:
                        return
                    if not acted:
                        self._sleep(self._poll_seconds)
            except KeyboardInterrupt:
                if self._executor.local:
                    with suppress(PlatformError):
                        self._interrupt()
                raise
            except Stopped:
                # Without an answer they find out that they are alone.
                with suppress(PlatformError, StoreError):
                    self._retried(self._interrupt)
                raise

    def reconcile(self, until: Until) -> tuple[bool, bool]:
        """Make one pass; return whether `until` is reached, and whether anything was done."""
        self.lease.renew()
        # Jobs before facts: a job reports and then ends. Asked the other way round, one that
        # did both in between would look like one that ended without a report.
        jobs = self._jobs()
        self._tell_waiting(jobs)
        snapshot = self._reader.read(jobs)
        if snapshot.unknown:
            jobs = self._jobs(snapshot.unknown)
            # Jobs before facts again: one of these may have reported and ended in between.
            snapshot = self._reader.read(jobs)
        state = fold(self._study.rungs, self._study.settings.race, snapshot, self.lease.generation)
        self._tell_reports(snapshot)
        is_reached = reached(state, snapshot, until)
        if is_reached and self._is_over(until, jobs, snapshot):
            return True, False
        if snapshot.stopped and not is_reached:
            self._stop(facts.STOPPED_BY_HAND, "`liverseg study resume` allows it to continue")
        running = [at for at, job in jobs.items() if job.running]
        actions = reconcile(
            self._study,
            state,
            snapshot,
            jobs,
            self._capacity,
            self.lease.generation,
            stalled=self._stalls.look(self._monotonic(), running, snapshot.spans),
            # Begun before this look: one that is admitted meanwhile is suspended, then begins.
            evicted=self._begun.intersection(at for at, job in jobs.items() if job.suspended),
        )
        self._begun = frozenset(snapshot.spans)
        if actions.waits and not is_reached and self._capacity.exhausted(snapshot.spent_seconds):
            spent, most = snapshot.spent_seconds / 3600, self._capacity.max_gpu_hours
            reason = f"{spent:.2f} of {most:g} GPU-hours are spent; start again with a larger limit"
            self._stop("stopped: budget", reason)
        self._apply(actions, state, jobs)
        return False, bool(actions.facts or actions.jobs)

    def _jobs(self, begun: Iterable[Attempt] = ()) -> dict[Attempt, JobState]:
        """Return the study's jobs, and remember those that run.

        Of `begun` the executor knew no job before. What it still does not know was deleted, or
        belongs to another machine: its attempt is over, and its name is not used again.
        """
        names = [job_name(self._study.id, self._study.nonce, at) for at in begun]
        gone = {name: JobState(name, False, message="its job is gone") for name in names}
        jobs = own_jobs(self._study, gone | dict(self._executor.states()))
        self._seen.update(at for at, job in jobs.items() if job.running)
        return jobs

    def _is_over(self, until: Until, jobs: Mapping[Attempt, JobState], snapshot: Snapshot) -> bool:
        """Return whether nothing is left to end or to record; a rung is over with its decision."""
        if until not in ("end", "baseline") and int(until) < len(self._study.rungs) - 1:
            return True
        awaited = [at for at in jobs if until == "baseline" or at.rung != "baseline"]
        return all(at in snapshot.closed and not jobs[at].running for at in awaited)

    def _stop(self, state: str, reason: str) -> None:
        """Record that the study is stopped; `run` asks what still runs to save and end."""
        self.lease.waiting = {}
        self.lease.say(state)
        raise Stopped(f"{state}: {reason}")

    def _retried(self, act: Callable[[], Answer]) -> Answer:
        """Return what `act`, which is safe to repeat, does once platform and store answer.

        Raises PlatformError or StoreAway after 15 minutes without an answer.
        """
        while True:
            try:
                answer = act()
                self._tell_back()
                return answer
            except (PlatformError, StoreAway) as error:
                what = "store" if isinstance(error, StoreAway) else "platform"
                if what != self._away:
                    self._tell_back()
                    self._away, self._away_since = what, self._monotonic()
                    self._tell("away", what=what, reason=str(error))
                if self._monotonic() - self._away_since > OUTAGE_SECONDS:
                    raise
                self._sleep(self._poll_seconds)

    def _interrupt(self) -> None:
        """Let the study's trainers save and end; they are resumed later."""
        for job in self._jobs().values():
            if job.running:
                self._executor.cancel(job.name)

    def _apply(self, actions: Actions, state: RaceState, jobs: Mapping[Attempt, JobState]) -> None:
        failures = []
        for failure in actions.failures:
            # Asked for here only: of a job on a cluster it costs a request.
            ended = jobs[Attempt(failure.rung, failure.seed, failure.attempt)]
            if line := self._executor.last_line(ended.name):
                failure = replace(failure, reason=f"{failure.reason}; last line: {line}")
            self._record("failed", failure)
            failures.append(failure)
        for at in actions.closed:
            closed = spans.closed(jobs[at].started, jobs[at].ended, jobs[at].exit_code)
            spans.write(self._store, self._study, at, closed)
        for failure in failures:
            self._raise_if_fixable(failure, state)
        for promotion in actions.promotions:
            self._record("promoted", promotion)
        for decision in actions.decisions:
            self._record("decided", decision)
        for arm, named in actions.results.items():
            report = read_report(self._store, self._study.id, named)
            result = write_result(self._store, self._study, arm, report)
            self._tell("finished", arm=arm, **result.to_mapping())
        for job in actions.jobs:
            self._seen.add(job.at)
            if spans.events(self._store, self._study, job.at):
                # Begun, and its job gone since the executor was asked: for the next reconcile.
                continue
            if self._executor.submit(job):
                self.started += 1
                self._tell("started", iterations=job.iterations, **job.at._asdict())
        for at in actions.cancelled:
            self._executor.cancel(jobs[at].name)
            # Asked again at every reconcile until it has ended, but reported once.
            if at not in self._cancelled:
                self._cancelled.add(at)
                self._tell("cancelled", **at._asdict())

    def _record(self, event: str, fact: Fact) -> None:
        """Write a fact once; another controller may have been faster with the same one."""
        record.write_new(self._store, fact.key(self._study.id), fact.to_mapping())
        self._tell(event, **fact.to_mapping())

    def _raise_if_fixable(self, failure: Failure, state: RaceState) -> None:
        kind = _FIXABLE.get(failure.exit_code or 0)
        # What stopped an earlier controller may have been fixed since.
        if kind is None or Attempt(failure.rung, failure.seed, failure.attempt) not in self._seen:
            return
        # One node that cannot reach the store does not mean that the store is away; LOST_ATTEMPTS
        # failures of one seed in this run do.
        if kind is StoreError:
            seed_state = state.seed_state(failure.seed, failure.rung)
            codes = [(f.exit_code, f.generation) for f in seed_state.failures] if seed_state else []
            if codes.count((failure.exit_code, failure.generation)) + 1 < LOST_ATTEMPTS:
                return
        raise kind(
            f"the trainer of seed {failure.seed} at rung {failure.rung} cannot continue: "
            f"{failure.reason}; the other trainers continue, `liverseg study stop` ends them"
        )

    def _tell(self, event: str, **values: Any) -> None:
        self._listener({"event": event} | values)

    def _tell_holder(self, heartbeat: Heartbeat) -> None:
        self._tell("held", owner=heartbeat.owner, seconds=WAIT_SECONDS)

    def _tell_back(self) -> None:
        if self._away:
            self._tell("back", what=self._away, seconds=self._monotonic() - self._away_since)
            self._away = ""

    def _tell_waiting(self, jobs: Mapping[Attempt, JobState]) -> None:
        """Record what jobs wait for; tell the listener each reason of a long wait once per job."""
        reasons = {at: job.waits_for for at, job in jobs.items() if job.waits_for}
        self.lease.waiting = {jobs[at].name: reason for at, reason in reasons.items()}
        now, before, self._waiting = self._monotonic(), self._waiting, {}
        for at, reason in reasons.items():
            since, logged = before.get(at, (now, frozenset()))
            # "0/3 nodes are available: ..." is logged once, however these counts vary.
            kind = reason.partition(":")[0].lstrip("/0123456789")
            if kind not in logged and now - since >= WAITING_SECONDS:
                self._tell("waits", reason=reason, **at._asdict())
                logged |= {kind}
            self._waiting[at] = now if kind in logged else since, logged

    def _tell_reports(self, snapshot: Snapshot) -> None:
        """Tell the listener what was reported since the last reconcile."""
        for report in snapshot.reports:
            if self._heard is not None and report.sha256 not in self._heard:
                at = Attempt(report.rung, report.seed, report.attempt)
                jaccard = report.score(self._study.settings.race.rung_metric)
                self._tell("reported", jaccard=jaccard, **at._asdict())
        self._heard = {report.sha256 for report in snapshot.reports}
