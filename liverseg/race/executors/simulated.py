"""A rehearsal of the race in virtual time, with a script of what goes wrong.

The real controller, status and ledger run on it; 240,000 iterations take half a second.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from liverseg.errors import LiversegError, PlatformError
from liverseg.exit_codes import ExitCode
from liverseg.race.executors.faults import ApiAway, Crash, Fault, Killed, hitting
from liverseg.race.executors.simulated_trainer import (
    Score,
    SimulatedTrainer,
    invented_score,
    uniform,
)
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.study import Study
from liverseg.storage.port import ObjectStore

BEGINNING = 1_000_000.0
"""Virtual unix time at which every rehearsal starts."""
_AWAY = "the simulated platform is away"
# A controller that waits looks up this often, far within the grace of its trainers.
HEARTBEAT_SECONDS = 600.0


@dataclass
class _Process:
    job: Job
    steps: Generator[float, None, int]
    submitted: float
    due: float
    dies: float
    forgotten: bool = False
    """Its job was deleted: the platform no longer knows the name, and would start it again."""
    state: JobState = field(init=False)
    """What the process does."""
    told: JobState = field(init=False)
    """What the platform says of it; a process on a cut-off node has ended for the platform."""

    @property
    def next(self) -> float:
        """When something happens to it."""
        return min(self.due, self.dies)

    def __post_init__(self) -> None:
        self.state = self.told = JobState(self.job.name, running=True)


class SimulatedExecutor:
    """An Executor, and the clock that its trainers live by.

    Args:
        store: Where the trainers write.
        study: Whose trainers they are.
        score: Their learning curves.
        seconds_per_iteration: On every node that no fault slows down.
        startup_seconds: From a job's start to its first iteration.
        faults: What goes wrong.
        skew: By seed, how many seconds its trainers' clocks are ahead.
        orphan_grace: Seconds without a new heartbeat after which a trainer saves and ends.
        lifetime: Seconds after which a job's node is taken away and its trainer killed.
    """

    def __init__(
        self,
        store: ObjectStore,
        study: Study,
        *,
        score: Score | None = None,
        seconds_per_iteration: float = 1.0,
        startup_seconds: float = 5.0,
        faults: Sequence[Fault] = (),
        skew: Callable[[int], float] = lambda seed: 0.0,
        orphan_grace: float = 1800.0,
        lifetime: Callable[[Job], float] = lambda job: math.inf,
    ) -> None:
        self.now = BEGINNING
        self.most_at_once = 0
        self._faults = tuple(faults)
        self._lifetime = lifetime
        self._skew = skew
        self._trainer = SimulatedTrainer(
            store=store,
            study=study,
            score=score or invented_score,
            seconds_per_iteration=seconds_per_iteration,
            startup_seconds=startup_seconds,
            orphan_grace=orphan_grace,
            faults=self._faults,
            clock=self.clock,
            skew=skew,
            cut_off=self._cut_off,
        )
        self._processes: dict[str, _Process] = {}
        self._ended = 0

    def clock(self) -> float:
        """Return the virtual unix time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass for everybody."""
        end = self.now + seconds
        while True:
            live = [p for p in self._processes.values() if p.state.running and p.next <= end]
            if not live:
                break
            process = min(live, key=lambda p: (p.next, p.job.name))
            self.now = process.next
            if process.dies < process.due:
                # As a cluster tells it of a node that it takes away (pod_states.py).
                self._end(process, -15)
            else:
                self._step(process)
        self.now = end

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, and then all the time until a job ends: a controller's sleep.

        Until then it would see nothing that changes what it does, but it has to say that it lives.
        """
        until, ended = self.now + HEARTBEAT_SECONDS, self._ended
        self.sleep(seconds)
        while self._ended == ended and self.now < until:
            due = [p.next for p in self._processes.values() if p.state.running]
            self.sleep(min([*due, until]) - self.now)

    def submit(self, job: Job) -> bool:
        """Start the job and return True; a name that exists is left as it is: False."""
        away = self._is_away()
        if away and uniform(job.seed, int(self.now)) < 0.5:
            raise PlatformError(_AWAY)
        new = job.name not in self._processes or self._processes[job.name].forgotten
        if new:
            self._processes[job.name] = _Process(
                job, self._trainer.run(job), self.now, self.now, self.now + self._lifetime(job)
            )
        live = sum(p.told.running for p in self._processes.values())
        self.most_at_once = max(self.most_at_once, live)
        if away:
            raise PlatformError(_AWAY)
        return new

    def states(self) -> Mapping[str, JobState]:
        """Return every job that was ever submitted, by name; PlatformError while it is away."""
        if self._is_away():
            raise PlatformError(_AWAY)
        return {n: p.told for n, p in self._processes.items() if not p.forgotten}

    def cancel(self, name: str) -> None:
        """End the job at once, without a word; an unknown name or an ended job is no error."""
        if self._is_away():
            raise PlatformError(_AWAY)
        process = self._processes.get(name)
        if process is not None and process.told.running:
            self._end(process, ExitCode.INTERRUPTED)

    def remove(self, name: str) -> None:
        """Forget a job that has ended."""
        process = self._processes.get(name)
        if process is not None and not process.told.running:
            process.forgotten = True

    def interrupt(self, study: str, nonce: str) -> None:
        """Cancel every job of the study."""
        for name, process in self._processes.items():
            if (process.job.study, process.job.nonce) == (study, nonce):
                self.cancel(name)

    def leave(self, study: str, nonce: str) -> None:
        """Cancel every job of the study."""
        self.interrupt(study, nonce)

    def _is_away(self) -> bool:
        passed = self.now - BEGINNING
        windows = (fault for fault in self._faults if isinstance(fault, ApiAway))
        return any(w.start <= passed < w.start + w.seconds for w in windows)

    def _step(self, process: _Process) -> None:
        try:
            process.due = self.now + next(process.steps)
        except StopIteration as stop:
            self._end(process, stop.value)
        except Crash:
            self._end(process, -9)
        except LiversegError as error:
            self._end(process, error.exit_code)

    def _end(self, process: _Process, exit_code: int | None) -> None:
        self._ended += 1
        skew = self._skew(process.job.seed)
        started, ended = process.submitted + skew, self.now + skew
        process.state = JobState(process.job.name, False, exit_code, started, ended, "simulated")
        killed = hitting(process.job, Killed, self._faults)
        process.forgotten = killed is not None and killed.deleted
        if process.told.running:
            process.told = process.state

    def _cut_off(self, name: str) -> None:
        self._ended += 1
        process = self._processes[name]
        process.told = JobState(name, False, message="simulated: node lost")
