"""Random schedules of faults, each reproducible by its number; each reconcile keeps invariants."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from liverseg.core.race.ledger import OUTCOMES
from liverseg.errors import Fenced, PlatformError, StoreError, StudyError, StudyHeld
from liverseg.race.audit.replay import replay
from liverseg.race.decide import cost
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision
from liverseg.race.records.job import parse_job_name
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study, open_study
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_executor import BEGINNING
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.away_store import AwayStore
from tests.race.fault_script import (
    ApiAway,
    Crash,
    Fault,
    Hangs,
    Killed,
    NodeLost,
    SlowNode,
    SlowStart,
)
from tests.race.faulty_executor import FaultyExecutor
from tests.race.rehearsal import DATASET, report_key
from tests.race.stepped import SteppedController, View

RECONCILES = 20_000
EXIT_CODES = (-9, 1, 75, 78, 0, None)
# What a controller may end with though the race can continue: somebody starts another one.
BEGUN_ANEW = (Crash, Fenced, KeyboardInterrupt, PlatformError, StoreError, StudyHeld)


class Outage(AwayStore):
    """A store that is away at times, and that knows whether a key was ever changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        if self.objects.get(key, data) != data and not key.endswith("heartbeat.json"):
            self.changed.append(key)
        super().put(key, data)


@dataclass
class Race:
    """A race of `seeds`, driven one reconcile at a time by the `run()` of controllers."""

    seeds: int
    gpus: int
    faults: tuple[Fault, ...] = ()
    away: tuple[tuple[float, float], ...] = ()
    """Times (start, end) after the beginning at which the store answers nobody."""
    dies_before: frozenset[int] = frozenset()
    dies_after: frozenset[int] = frozenset()
    """Numbers of writes, by anybody, before or after which the writer is killed."""
    controllers: int = 1
    oblivious: bool = False
    """Every controller believes for good that it holds the lease."""
    skew: dict[int, float] = field(default_factory=dict)
    ctrl_c: float = 0.0
    """How likely it is that somebody ends a controller that sleeps, which ends its trainers."""
    store: Outage = field(default_factory=Outage)

    def __post_init__(self) -> None:
        settings = from_mapping(
            {
                "race": {
                    "seeds": self.seeds,
                    "minimum_iterations": 20,
                    "maximum_iterations": 160,
                },
                "training": {"validation_interval": 10},
            }
        )
        self.study: Study = open_study(self.store, settings, DATASET, clock=lambda: BEGINNING)
        self.executor = FaultyExecutor(
            self.store,
            self.study,
            seconds_per_iteration=10.0,
            faults=self.faults,
            skew=lambda seed: self.skew.get(seed, 0.0),
        )
        first = self.store.writes
        self.store.before_write = lambda number, _: self._die(number - first, self.dies_before)
        self.store.after_write = lambda number, _: self._die(number - first, self.dies_after)
        self.store.away = lambda: any(
            start <= self.executor.now - BEGINNING < end for start, end in self.away
        )

    def _die(self, number: int, when: frozenset[int]) -> None:
        if number in when:
            raise Crash

    def run(self, rng: random.Random) -> None:
        """Let the controllers reconcile in random order until the race is over."""
        acting: list[SteppedController | None] = [None] * self.controllers
        own = [MemoryStore() if self.oblivious else None for _ in acting]
        try:
            for _ in range(RECONCILES):
                number = rng.randrange(self.controllers)
                controller = acting[number] or self._controller(View(self.store, own[number]), rng)
                acting[number] = controller
                try:
                    controller.step()
                except BEGUN_ANEW:
                    acting[number], controller.acted = None, False
                self.check_jobs()
                if controller.over:
                    self.check_facts()
                    return
                if controller.acted:
                    self.check_ledger()
                else:
                    self.executor.wait(rng.choice((1.0, 60.0)))
        finally:
            for left in filter(None, acting):
                left.abandon()
        raise AssertionError(f"the race did not end in {RECONCILES} reconciles")

    def _controller(self, view: View, rng: random.Random) -> SteppedController:
        def may_sleep() -> None:
            if rng.random() < self.ctrl_c:
                raise KeyboardInterrupt

        return SteppedController(
            view,
            self.executor,
            self.study,
            Capacity(self.gpus, False),
            clock=self.executor.clock,
            monotonic=self.executor.clock,
            may_sleep=may_sleep,
            take_over=rng.random() < 0.5,
        )

    def check_jobs(self) -> None:
        """Nothing beyond capacity, one live attempt a seed; as the platform tells it."""
        live = self.executor.running()
        assert len(live) <= self.gpus, live
        seeds = Counter(name[2].seed for n in live if (name := parse_job_name(n)))
        assert not [s for s, attempts in seeds.items() if attempts > 1], live
        assert self.store.changed == []

    def check_facts(self) -> None:
        """What was decided rests on committed reports; the ledger adds up; the model is there."""
        store, study = self.store, self.study
        for decision in self.decisions():
            for entry in decision.inputs:
                if entry.sha256 is not None:
                    key = report_key(store, study.id, decision.rung, entry.seed, entry.attempt)
                    assert bundle.sha256(store.get(key)).hexdigest() == entry.sha256
        assert list(replay(store, study.id).findings) == []
        self.check_ledger()
        result = facts.read_result(store, study.id)
        assert result is not None
        assert bundle.load(store, result.model)["model.safetensors"]

    def check_ledger(self) -> None:
        """Every second of every trainer has one outcome, and none is less than nothing."""
        store = MemoryStore()
        store.objects = self.store.objects  # read while the other one is away
        snapshot = SnapshotReader(store, self.study.id).read()
        rows = cost.ledger(self.study, snapshot)["rows"]
        seconds = [row[outcome]["seconds"] for row in rows for outcome in OUTCOMES]
        assert sum(seconds) == pytest.approx(snapshot.spent_seconds)
        assert min(seconds, default=0.0) >= 0

    def decisions(self) -> list[Decision]:
        keys = [key for key in self.store.keys("") if key.endswith("/decision.json")]
        return [record.read(self.store, key, Decision) for key in keys]

    def outcome(self) -> tuple[list[tuple[int, ...]], str]:
        result = facts.read_result(self.store, self.study.id)
        assert result is not None
        return [d.promoted for d in self.decisions()], result.weights_sha256

    def lost(self) -> list[tuple[int, int]]:
        """Return (seed, rung) of those that failed for good: without them another race is right."""
        return [(e.seed, d.rung) for d in self.decisions() for e in d.inputs if e.jaccard is None]


def random_race(number: int) -> tuple[Race, random.Random]:
    """Return the race of this number, with all kinds of faults mixed."""
    rng = random.Random(number)
    seeds = rng.randint(2, 10)

    def at() -> dict[str, int]:
        # Most seeds never see the later rungs.
        return {"seed": rng.randrange(seeds), "rung": rng.choice((0, 0, 0, 0, 1, 1, 2, 3))}

    def when() -> dict[str, int]:
        number = at()
        return number | {"iteration": rng.randint(1, 20 * 2 ** number["rung"])}

    def attempts() -> tuple[int, ...]:
        return tuple(range(rng.choice((1, 1, 1, 2, 4))))

    makers: list[Callable[[], Fault]] = [
        lambda: Killed(
            **when(), exit_code=rng.choice(EXIT_CODES),
            attempts=attempts(), deleted=rng.random() < 0.3,
        ),
        lambda: NodeLost(**when(), attempts=attempts()),
        lambda: Hangs(**when(), attempts=attempts()),
        lambda: SlowStart(**at(), seconds=rng.uniform(0, 3000)),
        lambda: SlowNode(**at(), factor=rng.uniform(1, 20), attempts=attempts()),
        lambda: ApiAway(rng.uniform(0, 8000), seconds=rng.uniform(0, 2000)),
    ]  # fmt: skip
    faults = tuple(rng.choice(makers)() for _ in range(rng.randint(0, 12)))
    controllers = rng.choice((1, 1, 2, 3))
    if controllers > 1:
        # Who takes over listens anew; where that happens all the time nobody is ever given up.
        faults = tuple(fault for fault in faults if not isinstance(fault, Hangs))
    starts = [rng.uniform(0, 8000) for _ in range(rng.choice((0, 0, 1, 2)))]
    race = Race(
        seeds,
        gpus=rng.randint(1, 5),
        faults=faults,
        away=tuple((start, start + rng.uniform(0, 600)) for start in starts),
        dies_before=frozenset(rng.randrange(600) for _ in range(rng.randint(0, 6))),
        dies_after=frozenset(rng.randrange(600) for _ in range(rng.randint(0, 6))),
        controllers=controllers,
        oblivious=rng.random() < 0.3,
        skew={rng.randrange(seeds): rng.uniform(-1e5, 1e5) for _ in range(rng.randint(0, 2))},
        ctrl_c=rng.choice((0.0, 0.0, 0.01)),
    )
    return race, rng


def undisturbed(
    seeds: int, lost: Sequence[tuple[int, int]] = ()
) -> tuple[list[tuple[int, ...]], str]:
    """Return the outcome of a race in which nothing happens but that these seeds fail for good."""
    faults = tuple(Killed(seed, rung, 20 * 2**rung, exit_code=78) for seed, rung in lost)
    race = Race(seeds, gpus=4, faults=faults)
    race.run(random.Random(0))
    return race.outcome()


def run_number(number: int) -> None:
    """Run one schedule; AssertionError names its number."""
    race, rng = random_race(number)
    try:
        race.run(rng)
    except StudyError as error:
        # The one way to end without a winner that is right: nobody is left.
        if "seeds failed at rung" in str(error):
            return
        raise AssertionError(f"schedule {number}: {error}") from error
    except Exception as error:
        raise AssertionError(f"schedule {number}: {type(error).__name__}: {error}") from error
    right = undisturbed(race.seeds, race.lost())
    assert race.outcome() == right, f"schedule {number}: another outcome"
