"""An executor in virtual time, for the real controller: 240,000 iterations take half a second."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from liverseg.exit_codes import ExitCode
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.study import Study
from liverseg.simulation.simulated_trainer import SimulatedTrainer
from liverseg.storage.port import ObjectStore

BEGINNING = 1_000_000.0
"""Virtual unix time at which every simulation starts."""
# A controller that waits looks up this often, far within the grace of its trainers.
HEARTBEAT_SECONDS = 600.0


@dataclass
class SimulatedProcess:
    """A trainer that runs or ran; times are virtual unix times in seconds."""

    job: Job
    steps: Generator[float, None, int]
    submitted: float
    due: float
    """Of its next step."""
    dies: float
    """When its node is taken away."""
    state: JobState

    @property
    def next(self) -> float:
        """When something happens to it."""
        return min(self.due, self.dies)


class SimulatedExecutor:
    """An Executor, and the clock that its trainers live by.

    The tests extend it with faults (tests/race/faulty_executor.py).

    Args:
        store: Where the trainers write.
        study: Whose trainers they are.
        seconds_per_iteration: On every node.
        startup_seconds: From a job's start to its first iteration.
        lifetime: Seconds after which a job's node is taken away and its trainer killed.
    """

    local = True

    def __init__(
        self,
        store: ObjectStore,
        study: Study,
        *,
        seconds_per_iteration: float = 1.0,
        startup_seconds: float = 5.0,
        lifetime: Callable[[Job], float] = lambda job: math.inf,
    ) -> None:
        self.now = BEGINNING
        self.store = store
        self.study = study
        self.seconds_per_iteration = seconds_per_iteration
        self.startup_seconds = startup_seconds
        self.lifetime = lifetime
        self.processes: dict[str, SimulatedProcess] = {}
        self.ended = 0
        """How many jobs have ended."""

    def clock(self) -> float:
        """Return the virtual unix time."""
        return self.now

    def trainer(self, job: Job) -> SimulatedTrainer:
        """Return what a job runs."""
        return SimulatedTrainer(
            self.store,
            self.study,
            job,
            self.seconds_per_iteration,
            self.startup_seconds,
            self.clock,
        )

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass for everybody."""
        end = self.now + seconds
        while True:
            live = [p for p in self.processes.values() if p.state.running and p.next <= end]
            if not live:
                break
            process = min(live, key=lambda p: (p.next, p.job.name))
            self.now = process.next
            if process.dies < process.due:
                # As a cluster tells it of a node that it takes away (pod_states.py).
                self.end(process, -15)
            else:
                self.step(process)
        self.now = end

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, and then all the time until a job ends: a controller's sleep.

        Until then it would see nothing that changes what it does, but it has to say that it lives.
        """
        until, ended = self.now + HEARTBEAT_SECONDS, self.ended
        self.sleep(seconds)
        while self.ended == ended and self.now < until:
            due = [p.next for p in self.processes.values() if p.state.running]
            self.sleep(min([*due, until]) - self.now)

    def submit(self, job: Job) -> bool:
        """Start the job and return True; a name that exists is left as it is: False."""
        if job.name in self.processes:
            return False
        self.processes[job.name] = SimulatedProcess(
            job,
            self.trainer(job).run(),
            submitted=self.now,
            due=self.now,
            dies=self.now + self.lifetime(job),
            state=JobState(job.name, running=True),
        )
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return every job that was ever submitted, by name."""
        return {name: process.state for name, process in self.processes.items()}

    def last_line(self, name: str) -> str:  # noqa: ARG002 - the port's
        """Return nothing: a simulated trainer writes no log."""
        return ""

    def cancel(self, name: str) -> None:
        """End the job at once, without a report; an unknown name or an ended job is no error."""
        process = self.processes.get(name)
        if process is not None and process.state.running:
            self.end(process, ExitCode.INTERRUPTED)

    def remove(self, name: str) -> None:
        """Forget a job that has ended."""
        process = self.processes.get(name)
        if process is not None and not process.state.running:
            del self.processes[name]

    def step(self, process: SimulatedProcess) -> None:
        """Let a trainer run until it waits for time to pass, or ends."""
        try:
            process.due = self.now + next(process.steps)
        except StopIteration as stop:
            self.end(process, stop.value)

    def end(self, process: SimulatedProcess, exit_code: int) -> None:
        """Record the end of a job."""
        self.ended += 1
        process.state = JobState(
            process.job.name, False, exit_code, process.submitted, self.now, "simulated"
        )
