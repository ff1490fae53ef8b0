"""A small race in virtual time: 4 seeds, rungs of 4, 2 and 1 at 2, 4 and 8 iterations."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.core.race.ledger import RungName
from liverseg.errors import Fenced
from liverseg.race.controller import Controller, Listener
from liverseg.race.decide.reconcile import Capacity, Until
from liverseg.race.records.job import Job, parse_job_name
from liverseg.race.records.study import Study, open_study
from liverseg.settings import Settings, from_mapping
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore
from tests.race.fault_script import Fault
from tests.race.faulty_executor import FaultyExecutor, Score

SETTINGS = from_mapping(
    {
        "race": {"seeds": 4, "minimum_iterations": 2, "maximum_iterations": 8},
        "training": {"validation_interval": 2},
    }
)

# What report, status and dashboard may rely on, whoever trained.
CURVE_ENTRIES = (
    "seed", "rung", "attempt", "iteration", "jaccard", "cases", "loss",
    "seconds_per_iteration", "waiting_share", "seconds", "time",
)  # fmt: skip


def record(name: str, synthetic: bool = True) -> CaseRecord:
    files = {"image": f"{name}/image.nii.gz"}
    return CaseRecord(
        name, name, "training", f"key-{name}", ("R1",), files, (2, 3, 4), (5.0, 1.0, 1.0), synthetic
    )


NONCE = "0a1b2c3d"
DATASET = Dataset((record("case_01"), record("case_02")))


def rising(seed: int, iteration: int) -> float:
    """The higher the seed, the better; everybody learns. Stays below 1, of 9999 too."""
    value = 0.1 * seed + 0.01 * iteration
    return value if value < 0.5 else 1 - 0.25 / value


class WatchedExecutor(FaultyExecutor):
    """Fails the test where a job is started beyond capacity or beside one of the same seed."""

    gpus = 1

    def submit(self, job: Job) -> bool:
        live = [name for name, state in self.states().items() if state.running]
        seeds = {parts[2].seed for name in live if (parts := parse_job_name(name)) is not None}
        started = super().submit(job)
        if started:
            assert len(live) < self.gpus, f"{job.name} beside {live}"
            assert job.seed not in seeds, f"{job.name} beside {live}"
        return started


class Rehearsal:
    """A store, a study, an executor; and as many controllers as a test wants."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        settings: Settings = SETTINGS,
        faults: Sequence[Fault] = (),
        score: Score = rising,
        gpus: int = 2,
        compare_baseline: bool = False,
        max_gpu_hours: float | None = None,
        skew: Callable[[int], float] = lambda seed: 0.0,
    ) -> None:
        self.store = store or MemoryStore()
        self.study: Study = open_study(
            self.store, settings, DATASET, clock=lambda: 1_000_000.0, nonce=lambda: NONCE
        )
        self.executor = WatchedExecutor(
            self.store,
            self.study,
            score=score,
            faults=faults,
            startup_seconds=1.0,
            skew=skew,
        )
        self.executor.gpus = gpus
        self.capacity = Capacity(gpus, compare_baseline, max_gpu_hours)
        self.events: list[dict[str, Any]] = []

    def controller(
        self,
        sleep: Callable[[float], None] | None = None,
        listener: Listener | None = None,
    ) -> Controller:
        return Controller(
            self.store,
            self.executor,
            self.study,
            self.capacity,
            clock=self.executor.clock,
            monotonic=self.executor.clock,
            sleep=sleep or self.executor.wait,
            listener=listener or (lambda event: self.events.append(dict(event))),
        )

    def run(self, until: Until = "end") -> Controller:
        controller = self.controller()
        controller.run(until)
        return controller

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == kind]


def run_beside_a_second(rehearsal: Rehearsal, write: int, parts: Sequence[str]) -> None:
    """Let a second controller run to the end just before the first one's n-th write.

    Writes of keys with one of `parts` count. Returns when the first one has noticed, or has had
    nothing left to do.
    """
    store, written = rehearsal.store, 0

    def begin(_number: int, key: str) -> None:
        nonlocal written
        if any(part in key for part in parts):
            written += 1
            if written == write:
                store.before_write = None
                rehearsal.run()

    store.before_write = begin
    with suppress(Fenced):
        rehearsal.run()
    assert written == write, "the race has fewer writes"


def report_key(store: ObjectStore, study: str, rung: RungName, seed: int, attempt: int = 0) -> str:
    """The key of the only report of an attempt."""
    (key,) = store.keys(f"studies/{study}/rungs/{rung}/reports/{seed:04d}-a{attempt}_")
    return key
