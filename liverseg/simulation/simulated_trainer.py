"""A trainer without a network: the facts of the real one in virtual time, with invented scores."""

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from hashlib import sha256

from liverseg.exit_codes import ExitCode
from liverseg.race.records import facts, lineage, spans
from liverseg.race.records.facts import Report
from liverseg.race.records.job import Job
from liverseg.race.records.reports import write_report
from liverseg.race.records.study import Study
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore


@dataclass(frozen=True)
class Position:
    """The whole state of a simulated training."""

    iteration: int = 0
    best_iteration: int = 0
    best_jaccard: float = -1.0
    last_jaccard: float = -1.0

    def after(self, iteration: int, jaccard: float) -> "Position":
        """Return the position after a validation."""
        if jaccard > self.best_jaccard:
            return Position(iteration, iteration, jaccard, jaccard)
        return replace(self, iteration=iteration, last_jaccard=jaccard)


@dataclass
class SimulatedTrainer:
    """The trainer of one job; the tests extend `train`, `score`, `validated` and `report`."""

    store: ObjectStore
    study: Study
    job: Job
    seconds_per_iteration: float
    startup_seconds: float
    """From the start to the first iteration."""
    clock: Callable[[], float]

    def run(self) -> Generator[float, None, int]:
        """Yield the seconds to the next step; the generator's return value is the exit code."""
        self.record(spans.start(self.clock(), "simulated"))
        yield self.startup_seconds
        position = self._restored()
        self.record(spans.sample(position.iteration, self.clock()))
        interval = self.study.settings.training.validation_interval
        while position.iteration < self.job.iterations:
            target = min(self.job.iterations, (position.iteration // interval + 1) * interval)
            yield from self.train(position.iteration, target)
            position = position.after(target, self.score(target))
            self.validated(position)
        self.report(position)
        self.record(spans.end(position.iteration, self.clock(), ExitCode.DONE))
        return ExitCode.DONE

    def train(self, iteration: int, target: int) -> Generator[float, None, None]:
        """Yield the seconds that it takes from `iteration` to the validation at `target`."""
        yield (target - iteration) * self.seconds_per_iteration

    def score(self, iteration: int) -> float:
        """Return the Jaccard of a validation, 0 to 1."""
        return invented_score(self.job.seed, iteration)

    def validated(self, position: Position) -> None:
        """Save a checkpoint, and record that it was reached."""
        job, iteration = self.job, position.iteration
        self.record(spans.sample(iteration, self.clock()))
        files = {
            "state.safetensors": f"state of seed {job.seed} at {iteration}".encode(),
            "best.safetensors": f"weights of seed {job.seed} at {position.best_iteration}".encode(),
            "state.json": record.encode(vars(position)),
        }
        extra = {"seed": job.seed, "iteration": iteration, "attempt": job.attempt}
        prefix = facts.checkpoint_prefix(job.study, job.seed, iteration, job.attempt)
        bundle.commit(self.store, prefix, files, extra)
        lineage.remove_superseded(self.store, self.study, job.seed, iteration)

    def report(self, position: Position) -> None:
        """Write the report of the checkpoint at the job's last iteration."""
        job = self.job
        prefix = next(c.prefix for c in self._checkpoints() if c.iteration == job.iterations)
        files = bundle.manifest(self.store, prefix).files
        report = Report(
            seed=job.seed,
            rung=job.at.rung,
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

    def _restored(self) -> Position:
        usable = [c for c in self._checkpoints() if c.iteration <= self.job.iterations]
        if not usable:
            return Position()
        return Position(**json.loads(bundle.load(self.store, usable[0].prefix)["state.json"]))

    def _checkpoints(self) -> list[facts.Checkpoint]:
        return lineage.checkpoints(self.store, self.study, self.job.seed)

    def record(self, event: str) -> None:
        """Write an event of records/spans.py."""
        spans.write(self.store, self.study, self.job.at, event)


def invented_score(seed: int, iteration: int) -> float:
    """Return a learning curve that depends on nothing but its arguments; 0 to 1, with noise."""
    talent, noise = (uniform(seed, n) for n in (0, iteration))
    return (0.4 + 0.5 * talent) * (1 - math.exp(-iteration / 8000)) * (0.95 + 0.05 * noise)


def uniform(seed: int, iteration: int) -> float:
    """Return a number from 0 to 1 that only depends on the arguments."""
    digest = sha256(f"{seed} {iteration}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
