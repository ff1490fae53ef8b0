"""The simulated executor with a script of what goes wrong (fault_script.py)."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from liverseg.errors import LiversegError, PlatformError, StoreAway
from liverseg.exit_codes import ExitCode
from liverseg.race.records import facts, spans
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.study import Study
from liverseg.simulation.simulated_executor import BEGINNING, SimulatedExecutor, SimulatedProcess
from liverseg.simulation.simulated_trainer import (
    Position,
    SimulatedTrainer,
    invented_score,
    uniform,
)
from liverseg.steps.training.orphan_check import OrphanCheck
from liverseg.storage.memory import MemoryStore
from liverseg.storage.outbox import Outage, Outbox
from liverseg.storage.port import ObjectStore
from tests.race.fault_script import (
    ApiAway,
    Crash,
    Fault,
    Hangs,
    Killed,
    NodeLost,
    SlowNode,
    SlowStart,
    hitting,
)

# Seed and iteration to a Jaccard from 0 to 1.
Score = Callable[[int, int], float]

# Between two looks for a store without which a trainer has nothing to do.
_RETRY_SECONDS = 5.0
_AWAY = "the simulated platform is away"


class FaultyExecutor(SimulatedExecutor):
    """A simulated executor on which things go wrong, by a script or by a test's own hand.

    Args:
        store: Where the trainers write.
        study: Whose trainers they are.
        score: Their learning curves.
        faults: What goes wrong.
        skew: By seed, how many seconds its trainers' clocks are ahead.
        orphan_grace: Seconds without a new heartbeat after which a trainer saves and ends.
        **options: Those of SimulatedExecutor.
    """

    def __init__(
        self,
        store: ObjectStore,
        study: Study,
        *,
        score: Score | None = None,
        faults: Sequence[Fault] = (),
        skew: Callable[[int], float] = lambda seed: 0.0,
        orphan_grace: float = 1800.0,
        **options: Any,
    ) -> None:
        super().__init__(store, study, **options)
        self.most_at_once = 0
        self.orphan_grace = orphan_grace
        self.faults = tuple(faults)
        self.skew = skew
        self.score = score or invented_score
        self.cut_off: dict[str, JobState] = {}
        """What the platform says of trainers whose node it has lost; they may still run."""

    def trainer(self, job: Job) -> "FaultyTrainer":
        return FaultyTrainer(self, job)

    def lose(self, name: str) -> None:
        """Cut off the node of a job: for the platform it has ended."""
        self.ended += 1
        self.cut_off[name] = JobState(name, False, message="simulated: node lost")

    def delete(self, name: str) -> None:
        """Delete a job that has ended: the platform no longer knows its name."""
        assert not self.processes.pop(name).state.running
        self.cut_off.pop(name, None)

    def running(self) -> list[str]:
        """Return the jobs that run, as the platform knows it even while it answers nobody."""
        return [n for n, p in self.processes.items() if p.state.running and n not in self.cut_off]

    def submit(self, job: Job) -> bool:
        if not self._is_away():
            new = super().submit(job)
        elif uniform(job.seed, int(self.now)) < 0.5:
            raise PlatformError(_AWAY)
        else:
            super().submit(job)
            raise PlatformError(f"{_AWAY}; the reply is lost")
        self.most_at_once = max(self.most_at_once, len(self.running()))
        return new

    def states(self) -> Mapping[str, JobState]:
        self._require_platform()
        return {**super().states(), **self.cut_off}

    def cancel(self, name: str) -> None:
        self._require_platform()
        if name not in self.cut_off:
            super().cancel(name)

    def step(self, process: SimulatedProcess) -> None:
        try:
            super().step(process)
        except Crash:
            self.end(process, -9)
        except LiversegError as error:
            self.end(process, error.exit_code)

    def end(self, process: SimulatedProcess, exit_code: int) -> None:
        super().end(process, exit_code)
        state, skew = process.state, self.skew(process.job.seed)
        assert state.started is not None
        assert state.ended is not None
        process.state = replace(state, started=state.started + skew, ended=state.ended + skew)
        killed = hitting(process.job, Killed, self.faults)
        if killed is not None and killed.deleted:
            self.delete(process.job.name)

    def _require_platform(self) -> None:
        if self._is_away():
            raise PlatformError(_AWAY)

    def _is_away(self) -> bool:
        passed = self.now - BEGINNING
        windows = (fault for fault in self.faults if isinstance(fault, ApiAway))
        return any(w.start <= passed < w.start + w.seconds for w in windows)


class _Ends(Exception):
    """The trainer's process ends with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class _Hangs(Exception):
    """The trainer's process stands still for ever."""


class FaultyTrainer(SimulatedTrainer):
    """A simulated trainer that also writes a learning curve, and that the faults of its job hit."""

    def __init__(self, executor: FaultyExecutor, job: Job) -> None:
        self.executor = executor
        self._killed = hitting(job, Killed, executor.faults)
        self._lost = hitting(job, NodeLost, executor.faults)
        self._hangs = hitting(job, Hangs, executor.faults)
        self._slow_start = hitting(job, SlowStart, executor.faults)
        slow = hitting(job, SlowNode, executor.faults)
        self._orphan_check = OrphanCheck(
            executor.store,
            job.study,
            job.nonce,
            job.seed,
            job.at.rung,
            job.attempt,
            executor.orphan_grace,
        )
        self._outage = Outage(lambda: executor.now)
        self._outbox = Outbox(executor.store, MemoryStore(), self._outage)
        super().__init__(
            executor.store,
            executor.study,
            job,
            executor.seconds_per_iteration * (slow.factor if slow else 1.0),
            executor.startup_seconds,
            lambda: executor.now + executor.skew(job.seed),
        )

    def run(self) -> Generator[float, None, int]:
        yield self._slow_start.seconds if self._slow_start else 0.0
        self._started = self.clock()
        while True:
            try:
                self._outbox.flush()
                self._is_orphan()
                return (yield from super().run())
            except _Ends as end:
                return end.exit_code
            except _Hangs:
                yield math.inf
                raise AssertionError("an infinite time has passed") from None
            except StoreAway:
                # It has nothing to do without the store: at its beginning, or at its rung.
                if self._outage.seconds > self.executor.orphan_grace:
                    return ExitCode.ORPHANED
                yield _RETRY_SECONDS

    def _is_orphan(self) -> bool:
        return self._outage.ask(lambda: self._orphan_check.is_orphan(self.clock()))

    def record(self, event: str) -> None:
        self._outbox.write(lambda store: spans.write(store, self.study, self.job.at, event))

    def train(self, iteration: int, target: int) -> Generator[float, None, None]:
        if self._hangs is not None and self._hangs.iteration <= target < self.job.iterations:
            raise _Hangs
        if self._killed is not None and self._killed.iteration <= target:
            yield max(0, self._killed.iteration - iteration) * self.seconds_per_iteration
            raise _Ends(self._killed.exit_code)
        yield from super().train(iteration, target)
        if self._lost is not None and self._lost.iteration <= target:
            self.executor.lose(self.job.name)
            self._lost = None

    def score(self, iteration: int) -> float:
        return self.executor.score(self.job.seed, iteration)

    def validated(self, position: Position) -> None:
        job, now = self.job, self.clock()
        point = facts.CurvePoint(
            seed=job.seed,
            rung=job.at.rung,
            attempt=job.attempt,
            iteration=position.iteration,
            jaccard=position.last_jaccard,
            cases={"simulated": position.last_jaccard},
            loss=1 - position.last_jaccard,
            seconds_per_iteration=self.seconds_per_iteration,
            waiting_share=0.0,
            seconds=now - self._started,
            time=now,
        )
        self._outbox.write(lambda store: facts.write_curve(store, job.study, point))
        self._outbox.write(lambda store: self._validated_in(store, position))
        try:
            self._outbox.flush()
            orphan = self._is_orphan()
        except StoreAway:
            orphan = self._outage.seconds > self.executor.orphan_grace
        if position.iteration < job.iterations and orphan:
            self.record(spans.end(position.iteration, now, ExitCode.ORPHANED))
            raise _Ends(ExitCode.ORPHANED)

    def _validated_in(self, store: ObjectStore, position: Position) -> None:
        try:
            self.store = store
            super().validated(position)
        finally:
            self.store = self.executor.store

    def report(self, position: Position) -> None:
        super().report(position)
        if self._hangs is not None:
            raise _Hangs
