"""A trainer without a network: the protocol of the real one in virtual time, with a curve.

It writes the same facts as steps/race/train.py, with invented weights and scores.
"""

import json
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

from liverseg.errors import StoreAway
from liverseg.exit_codes import ExitCode
from liverseg.race.executors.faults import (
    Fault,
    Hangs,
    Killed,
    NodeLost,
    SlowNode,
    SlowStart,
    hitting,
)
from liverseg.race.records import facts, lineage, spans
from liverseg.race.records.facts import Report
from liverseg.race.records.job import Job
from liverseg.race.records.orphan_check import OrphanCheck
from liverseg.race.records.outbox import Outage, Outbox
from liverseg.race.records.reports import write_report
from liverseg.race.records.spans import Attempt
from liverseg.race.records.study import Study, load_study
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore

# Seed and iteration to a Jaccard from 0 to 1.
Score = Callable[[int, int], float]
Answer = TypeVar("Answer")
RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class SimulatedTrainer:
    """What all trainers of a simulated race share."""

    store: ObjectStore
    study: Study
    score: Score
    seconds_per_iteration: float
    """On a node that no fault slows down."""
    startup_seconds: float
    """From a job's start to its first iteration."""
    orphan_grace: float
    """Seconds without a new heartbeat after which a trainer saves and ends."""
    faults: Sequence[Fault]
    clock: Callable[[], float]
    skew: Callable[[int], float]
    """By seed, how many seconds its clock is ahead."""
    cut_off: Callable[[str], None]
    """Called with a job's name when its node is lost."""

    def run(self, job: Job) -> Generator[float, None, int]:
        """Yield the seconds to the next step; the generator's return value is the exit code."""
        slow = hitting(job, SlowStart, self.faults)
        yield slow.seconds if slow else 0.0
        started = self._now(job)
        begin = self._record(job, spans.start(started, "simulated"))
        outage = Outage(self.clock)
        outbox = Outbox(self.store, MemoryStore(), outage)
        alone = False
        try:
            yield from self._waited(outage, lambda: begin(self.store))
            yield self.startup_seconds
            position = yield from self._waited(outage, lambda: self._restored(job))
        except StoreAway:
            return ExitCode.ORPHANED
        outbox.write(self._record(job, spans.sample(position.iteration, self._now(job))))
        killed, lost = hitting(job, Killed, self.faults), hitting(job, NodeLost, self.faults)
        node, hangs = hitting(job, SlowNode, self.faults), hitting(job, Hangs, self.faults)
        pace = self.seconds_per_iteration * (node.factor if node else 1.0)
        interval = self.study.settings.training.validation_interval
        watch = OrphanCheck(
            self.store,
            job.study,
            job.nonce,
            job.seed,
            job.rung_name,
            job.attempt,
            self.orphan_grace,
        )
        with suppress(StoreAway):
            watch.is_alone(self.clock())
        while position.iteration < job.iterations:
            target = min(job.iterations, (position.iteration // interval + 1) * interval)
            if hangs is not None and hangs.iteration <= target < job.iterations:
                yield math.inf
            if killed is not None and killed.iteration <= target:
                yield max(0, killed.iteration - position.iteration) * pace
                return killed.exit_code
            yield (target - position.iteration) * pace
            if lost is not None and lost.iteration <= target:
                self.cut_off(job.name)
                lost = None
            position = position.after(target, self.score(job.seed, target))
            self._validated(job, position, pace, started, outbox)
            try:
                outbox.flush()
                alone = outage.ask(lambda: watch.is_alone(self.clock()))
            except StoreAway:
                alone = outage.seconds > self.orphan_grace
            if position.iteration < job.iterations and alone:
                ending = spans.end(position.iteration, self._now(job), ExitCode.ORPHANED)
                outbox.write(self._record(job, ending))
                return ExitCode.ORPHANED
        try:
            yield from self._waited(outage, outbox.flush)
            yield from self._waited(outage, lambda: self._report(job, position))
        except StoreAway:
            return ExitCode.ORPHANED
        if hangs is not None:
            yield math.inf
        ending = spans.end(position.iteration, self._now(job), ExitCode.DONE)
        outbox.write(self._record(job, ending))
        return ExitCode.DONE

    def _waited(self, outage: Outage, act: Callable[[], Answer]) -> Generator[float, None, Answer]:
        """Return what `act` does, once the store answers; StoreAway after the orphans' grace."""
        while True:
            try:
                return outage.ask(act)
            except StoreAway:
                if outage.seconds > self.orphan_grace:
                    raise
                yield RETRY_SECONDS

    def _restored(self, job: Job) -> "_Position":
        saved = lineage.checkpoints(self.store, load_study(self.store, job.study), job.seed)
        usable = [checkpoint for checkpoint in saved if checkpoint.iteration <= job.iterations]
        if not usable:
            return _Position()
        return _Position(**json.loads(bundle.load(self.store, usable[0].prefix)["state.json"]))

    def _validated(
        self, job: Job, position: "_Position", pace: float, started: float, outbox: Outbox
    ) -> None:
        seed, iteration = job.seed, position.iteration
        now = self._now(job)
        point = facts.CurvePoint(
            seed=seed,
            rung=job.rung_name,
            attempt=job.attempt,
            iteration=iteration,
            jaccard=position.last_jaccard,
            cases={"simulated": position.last_jaccard},
            loss=1 - position.last_jaccard,
            seconds_per_iteration=pace,
            waiting_share=0.0,
            seconds=now - started,
            time=now,
        )
        outbox.write(lambda store: facts.write_curve(store, job.study, point))
        outbox.write(self._record(job, spans.sample(iteration, now)))
        files = {
            "state.safetensors": f"state of seed {seed} at {iteration}".encode(),
            "best.safetensors": f"weights of seed {seed} at {position.best_iteration}".encode(),
            "state.json": record.encode(vars(position)),
        }
        extra = {"seed": seed, "iteration": iteration, "attempt": job.attempt}
        prefix = facts.checkpoint_prefix(job.study, seed, iteration, job.attempt)

        def commit(store: ObjectStore) -> None:
            bundle.commit(store, prefix, files, extra)
            lineage.remove_superseded(store, self.study, seed, iteration)

        outbox.write(commit)

    def _report(self, job: Job, position: "_Position") -> None:
        saved = lineage.checkpoints(self.store, load_study(self.store, job.study), job.seed)
        prefix = next(c.prefix for c in saved if c.iteration == job.iterations)
        files = bundle.manifest(self.store, prefix).files
        report = Report(
            seed=job.seed,
            rung=job.rung_name,
            attempt=job.attempt,
            iterations=job.iterations,
            best_jaccard=position.best_jaccard,
            best_iteration=position.best_iteration,
            last_jaccard=position.last_jaccard,
            cases={"simulated": position.best_jaccard},
            checkpoint=prefix,
            checkpoint_sha256=bundle.manifest_sha256(self.store, prefix),
            weights_sha256=files["best.safetensors"].sha256,
        )
        write_report(self.store, job.study, report)

    def _now(self, job: Job) -> float:
        return self.clock() + self.skew(job.seed)

    def _record(self, job: Job, event: str) -> Callable[[ObjectStore], None]:
        attempt = Attempt(job.rung_name, job.seed, job.attempt)
        return lambda store: spans.write(store, self.study, attempt, event)


@dataclass(frozen=True)
class _Position:
    """All that a simulated training has to remember."""

    iteration: int = 0
    best_iteration: int = 0
    best_jaccard: float = -1.0
    last_jaccard: float = -1.0

    def after(self, iteration: int, jaccard: float) -> "_Position":
        if jaccard > self.best_jaccard:
            return _Position(iteration, iteration, jaccard, jaccard)
        return replace(self, iteration=iteration, last_jaccard=jaccard)


def invented_score(seed: int, iteration: int) -> float:
    """Return a learning curve that depends on nothing but its arguments; 0 to 1, with noise."""
    talent, noise = (uniform(seed, n) for n in (0, iteration))
    return (0.4 + 0.5 * talent) * (1 - math.exp(-iteration / 8000)) * (0.95 + 0.05 * noise)


def uniform(seed: int, iteration: int) -> float:
    """Return a number from 0 to 1 that only depends on the arguments."""
    digest = sha256(f"{seed} {iteration}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
