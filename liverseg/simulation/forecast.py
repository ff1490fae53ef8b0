"""What a race will take: the real controller and the trainer's protocol, run in virtual time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from liverseg.core.data.dataset import Dataset
from liverseg.core.race.ledger import Bar, RungName
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records.job import Job
from liverseg.race.records.snapshot import SnapshotReader, read_failures
from liverseg.race.records.study import Study, open_study
from liverseg.settings import Settings
from liverseg.simulation.simulated_executor import BEGINNING, SimulatedExecutor
from liverseg.simulation.simulated_trainer import uniform
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore


@dataclass(frozen=True)
class Load:
    """What a trainer takes and what happens to it."""

    seconds_per_iteration: float
    pod_overhead_seconds: float = 0.0
    """From a job's start to its first iteration: scheduling, image, data, checkpoint."""
    preemptions_per_gpu_hour: float = 0.0
    """How often a node is taken away. What was done since the last checkpoint is done again."""


@dataclass(frozen=True)
class Forecast:
    """A simulated race."""

    gpus: int
    makespan_seconds: float
    gpu_seconds: float
    """Of all trainers, from their start to their end."""
    bars: tuple[Bar, ...]


def forecast(settings: Settings, gpus: int, load: Load, draw: int = 0) -> Forecast:
    """Return one race of `settings` on `gpus`; `draw` numbers the preemptions' dice."""
    store = MemoryStore()
    study = open_study(store, settings, Dataset((), settings.preparation), lambda: BEGINNING)
    executor = SimulatedExecutor(
        store,
        study,
        seconds_per_iteration=load.seconds_per_iteration,
        startup_seconds=load.pod_overhead_seconds,
        lifetime=_lifetimes(load.preemptions_per_gpu_hour, draw),
    )
    Controller(
        store,
        executor,
        study,
        Capacity(gpus, compare_baseline=False),
        clock=executor.clock,
        monotonic=executor.clock,
        sleep=executor.wait,
        poll_seconds=0.0,
    ).run("end")
    spans = SnapshotReader(store, study.id).read().spans.values()
    done = [(s.seed, s.rung, s.samples[0].time, s.samples[-1].time) for s in spans]
    return Forecast(
        gpus,
        max(end for *_, end in done) - BEGINNING,
        sum(end - start for *_, start, end in done),
        tuple(_bars(done)),
    )


def _lifetimes(per_gpu_hour: float, draw: int) -> Callable[[Job], float]:
    """Return for how many seconds a job's node lives: exponential, drawn by the job's name."""

    def lifetime(job: Job) -> float:
        if per_gpu_hour <= 0:
            return math.inf
        chance = uniform(job.seed, draw * 1_000_000 + job.rung * 1_000 + job.attempt)
        return -math.log(max(chance, 1e-12)) / per_gpu_hour * 3600

    return lifetime


def _bars(done: list[tuple[int, RungName, float, float]]) -> list[Bar]:
    """Give every trainer the lowest GPU that is free when it starts."""
    free: list[float] = []
    bars = []
    for seed, rung, start, end in sorted(done, key=lambda d: (d[2], d[0])):
        gpu = next((n for n, until in enumerate(free) if until <= start + 1e-6), len(free))
        free[gpu : gpu + 1] = [end]
        bars.append(Bar(gpu, seed, rung, start - BEGINNING, end - BEGINNING))
    return bars


def calibrated(store: ObjectStore, study: Study) -> Load | None:
    """Return the load of a study that was run; None where no trainer has validated yet.

    Medians, so that a slow node or a first download does not count; an iteration takes its share
    of validating and saving.
    """
    snapshot = SnapshotReader(store, study.id).read()
    spans = [span for span in snapshot.spans.values() if len(span.samples) > 1]
    rates = [s / i for span in spans for i, s in span.stretches if i > 0]
    if not rates or not spans:
        return None
    lost = sum(f.kind in ("infrastructure", "stalled") for f in read_failures(store, study.id))
    hours = snapshot.spent_seconds / 3600
    return Load(
        median(rates),
        median(s.samples[1].time - s.samples[0].time for s in spans),
        lost / hours if hours else 0.0,
    )
