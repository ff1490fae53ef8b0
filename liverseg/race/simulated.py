"""A rehearsal of the race in virtual time, with a script of what goes wrong.

Trainers write the same facts as real ones, with invented weights and scores, so that the real
controller, status and ledger run on them; 240,000 iterations take seconds.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from liverseg.race import facts
from liverseg.race.executor import INTERRUPTED, Job, JobState
from liverseg.race.facts import Report
from liverseg.race.study import Study
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore

# A controller that waits looks up this often, far within the grace of its trainers.
HEARTBEAT_SECONDS = 600.0
# Seed and iteration to a Jaccard from 0 to 1.
Score = Callable[[int, int], float]


class Crash(BaseException):
    """Raised by a store in place of a write: whoever was writing dies on the spot (kill -9)."""


@dataclass(frozen=True)
class Fault:
    """The trainer of `seed` at `rung` ends with `exit_code` when it gets to `iteration`.

    It writes nothing at or after that iteration: exit code 0 at the target is a lost report.
    """

    seed: int
    rung: int
    iteration: int
    exit_code: int = -9
    attempts: tuple[int, ...] = (0,)
    """The attempts that it hits."""


@dataclass
class _Process:
    job: Job
    steps: Generator[float, None, int]
    due: float
    state: JobState = field(init=False)

    def __post_init__(self) -> None:
        self.state = JobState(self.job.name, running=True)


class SimulatedExecutor:
    """An Executor, and the clock that its trainers live by."""

    def __init__(
        self,
        store: ObjectStore,
        study: Study,
        *,
        score: Score | None = None,
        seconds_per_iteration: float = 1.0,
        startup_seconds: float = 5.0,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.now = 1_000_000.0
        self.most_at_once = 0
        self._store = store
        self._study = study
        self._score = score or invented_score
        self._seconds_per_iteration = seconds_per_iteration
        self._startup_seconds = startup_seconds
        self._faults = tuple(faults)
        self._processes: dict[str, _Process] = {}
        self._ended = 0

    def clock(self) -> float:
        """Return the virtual unix time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass for everybody."""
        end = self.now + seconds
        while True:
            live = [p for p in self._processes.values() if p.state.running and p.due <= end]
            if not live:
                break
            process = min(live, key=lambda p: (p.due, p.job.name))
            self.now = process.due
            self._step(process)
        self.now = end

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, and then all the time until a job ends: a controller's sleep.

        Until then it would see nothing that changes what it does, but it has to say that it lives.
        """
        until, ended = self.now + HEARTBEAT_SECONDS, self._ended
        self.sleep(seconds)
        while self._ended == ended and self.now < until:
            due = [p.due for p in self._processes.values() if p.state.running]
            self.sleep(min(due, default=until) - self.now)

    def submit(self, job: Job) -> bool:
        """Start the job and return True; a name that exists is left as it is: False."""
        if job.name in self._processes:
            return False
        self._processes[job.name] = _Process(job, self._train(job), self.now)
        live = sum(p.state.running for p in self._processes.values())
        self.most_at_once = max(self.most_at_once, live)
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return every job that was ever submitted, by name."""
        return {name: process.state for name, process in self._processes.items()}

    def cancel(self, name: str) -> None:
        """End the job at once, without a word; an unknown name or an ended job is no error."""
        if name in self._processes and self._processes[name].state.running:
            self._end(self._processes[name], INTERRUPTED)

    def interrupt(self, study: str) -> None:
        """Cancel every job of the study."""
        for name, process in self._processes.items():
            if process.job.study == study:
                self.cancel(name)

    def _step(self, process: _Process) -> None:
        try:
            process.due = self.now + next(process.steps)
        except StopIteration as stop:
            self._end(process, stop.value)
        except Crash:
            self._end(process, -9)

    def _end(self, process: _Process, exit_code: int) -> None:
        self._ended += 1
        process.state = replace(
            process.state, running=False, exit_code=exit_code, ended=self.now, message="simulated"
        )

    def _train(self, job: Job) -> Generator[float, None, int]:
        """Yield the seconds to the next step; the generator's return value is the exit code."""
        started = self.now
        self._segment(job, "start", 0)
        yield self._startup_seconds
        position = self._restored(job)
        self._segment(job, position.iteration, position.iteration)
        fault = self._fault(job)
        interval = self._study.settings.training.validation_interval
        while position.iteration < job.iterations:
            target = min(job.iterations, (position.iteration // interval + 1) * interval)
            if fault is not None and fault.iteration <= target:
                yield (fault.iteration - position.iteration) * self._seconds_per_iteration
                return fault.exit_code
            yield (target - position.iteration) * self._seconds_per_iteration
            position = position.after(target, self._score(job.seed, target))
            self._validated(job, position, started)
        self._report(job, position)
        self._segment(job, "end", position.iteration, exit_code=0)
        return 0

    def _fault(self, job: Job) -> Fault | None:
        for fault in self._faults:
            if (fault.seed, fault.rung) == (job.seed, job.rung) and job.attempt in fault.attempts:
                return fault
        return None

    def _restored(self, job: Job) -> "_Position":
        saved = facts.checkpoints(self._store, job.study, job.seed)
        usable = [checkpoint for checkpoint in saved if checkpoint.iteration <= job.iterations]
        if not usable:
            return _Position()
        return _Position(**json.loads(bundle.load(self._store, usable[0].prefix)["state.json"]))

    def _validated(self, job: Job, position: "_Position", started: float) -> None:
        seed, iteration = job.seed, position.iteration
        point = facts.CurvePoint(
            seed=seed,
            rung=job.rung_name,
            attempt=job.attempt,
            iteration=iteration,
            jaccard=position.last_jaccard,
            cases={"simulated": position.last_jaccard},
            loss=1 - position.last_jaccard,
            seconds_per_iteration=self._seconds_per_iteration,
            waiting_share=0.0,
            seconds=self.now - started,
            time=self.now,
        )
        facts.write_curve(self._store, job.study, point)
        self._segment(job, iteration, iteration)
        files = {
            "state.safetensors": f"state of seed {seed} at {iteration}".encode(),
            "best.safetensors": f"weights of seed {seed} at {position.best_iteration}".encode(),
            "state.json": record.encode(vars(position)),
        }
        extra = {"seed": seed, "iteration": iteration, "attempt": job.attempt}
        prefix = facts.checkpoint_prefix(job.study, seed, iteration, job.attempt)
        bundle.commit(self._store, prefix, files, extra)

    def _report(self, job: Job, position: "_Position") -> None:
        saved = facts.checkpoints(self._store, job.study, job.seed)
        prefix = next(c.prefix for c in saved if c.iteration == job.iterations)
        files = bundle.manifest(self._store, prefix)["files"]
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
            checkpoint_sha256=bundle.manifest_sha256(self._store, prefix),
            weights_sha256=files["best.safetensors"]["sha256"],
        )
        facts.write_report(self._store, job.study, report)

    def _segment(self, job: Job, part: str | int, iteration: int, **more: int) -> None:
        values = {"seed": job.seed, "rung": job.rung_name, "attempt": job.attempt}
        key = f"{facts.study_prefix(job.study)}segments/{job.name}/{part}.json"
        record.write(self._store, key, values | {"iteration": iteration, "time": self.now} | more)


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
    talent, noise = (_uniform(seed, n) for n in (0, iteration))
    return (0.4 + 0.5 * talent) * (1 - math.exp(-iteration / 8000)) * (0.95 + 0.05 * noise)


def _uniform(seed: int, iteration: int) -> float:
    digest = sha256(f"{seed} {iteration}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
