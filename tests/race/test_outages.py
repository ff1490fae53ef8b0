"""A store that is away for some and not for others, in virtual time: an outage costs nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from liverseg.errors import LiversegError, StoreAway, StoreError
from liverseg.exit_codes import ExitCode
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.decide.state import LOST_ATTEMPTS
from liverseg.race.records import facts
from liverseg.race.records.lease import Lease
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import open_study
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_executor import BEGINNING
from liverseg.steps.report.curves import read_curves
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from liverseg.storage.outbox import Outage, Outbox
from liverseg.storage.port import ObjectStore
from tests.race.fault_script import Killed
from tests.race.faulty_executor import FaultyExecutor
from tests.race.rehearsal import DATASET

SETTINGS = from_mapping(
    {
        "race": {"seeds": 4, "minimum_iterations": 500, "maximum_iterations": 2000},
        "training": {"validation_interval": 100},
    }
)
MINUTE = 60.0
Window = tuple[float, float]


class View:
    """One party's way to the store, on which nothing gets through at times."""

    def __init__(self, store: ObjectStore, error: Callable[[], LiversegError | None]) -> None:
        self._store, self._error = store, error

    def _asked(self) -> ObjectStore:
        error = self._error()
        if error is not None:
            raise error
        return self._store

    def put(self, key: str, data: bytes) -> None:
        self._asked().put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        return self._asked().put_new(key, data)

    def get(self, key: str) -> bytes:
        return self._asked().get(key)

    def keys(self, prefix: str) -> list[str]:
        return self._asked().keys(prefix)

    def folders(self, prefix: str) -> list[str]:
        return self._asked().folders(prefix)

    def delete(self, key: str) -> None:
        self._asked().delete(key)

    def put_file(self, key: str, path: Path) -> None:
        self._asked().put_file(key, path)

    def get_file(self, key: str, path: Path) -> None:
        self._asked().get_file(key, path)


class Race:
    """A race whose controller and whose trainers each have their own way to the store.

    `controller` and `trainers` are when it is away, in seconds after the beginning.
    """

    def __init__(
        self,
        controller: Window = (0.0, 0.0),
        trainers: Window = (0.0, 0.0),
        faults: tuple[Killed, ...] = (),
        error: type[StoreError] = StoreAway,
    ) -> None:
        self.store = MemoryStore()
        self.study = open_study(self.store, SETTINGS, DATASET, clock=lambda: BEGINNING)
        self.events: list[dict[str, Any]] = []
        self._error = error
        self._controllers_view = self._view(controller)
        self.executor = FaultyExecutor(self._view(trainers), self.study, faults=faults)

    def _view(self, window: Window) -> View:
        def error() -> LiversegError | None:
            passed = self.executor.now - BEGINNING
            return self._error("no way to the store") if window[0] <= passed < window[1] else None

        return View(self.store, error)

    def run(self) -> None:
        Controller(
            self._controllers_view,
            self.executor,
            self.study,
            Capacity(2, False),
            clock=self.executor.clock,
            monotonic=self.executor.clock,
            sleep=self.executor.sleep,
            poll_seconds=5.0,
            listener=lambda event: self.events.append(dict(event)),
        ).run("end")

    def events_of(self, *kinds: str) -> list[tuple[str, object]]:
        return [(e["event"], e.get("what")) for e in self.events if e["event"] in kinds]

    def exit_codes(self) -> list[int | None]:
        return [state.exit_code for state in self.executor.states().values()]

    def weights(self) -> str:
        result = facts.read_result(self.store, self.study.id)
        assert result is not None
        return result.weights_sha256

    def curve(self) -> list[int]:
        return [point["iteration"] for point in read_curves(self.store, self.study.id)[0]]


def undisturbed() -> Race:
    race = Race()
    race.run()
    return race


TEN_MINUTES = (9 * MINUTE, 19 * MINUTE)


@pytest.mark.parametrize(
    "windows",
    [
        {"controller": TEN_MINUTES},
        {"trainers": TEN_MINUTES},
        {"controller": TEN_MINUTES, "trainers": TEN_MINUTES},
        # From the first look on: nobody has begun.
        {"controller": (0.0, 600.0), "trainers": (0.0, 600.0)},
    ],
    ids=["the controller's node", "the trainers' nodes", "all", "all, from the beginning"],
)
def test_a_store_that_is_away_for_ten_minutes_costs_no_attempt_and_no_iteration(windows) -> None:
    race, calm = Race(**windows), undisturbed()
    race.run()
    assert race.weights() == calm.weights()
    assert set(race.exit_codes()) == {0}
    assert race.events_of("failed") == []
    expected = [("away", "store"), ("back", "store")] if "controller" in windows else []
    assert race.events_of("away", "back") == expected
    spent = [SnapshotReader(r.store, r.study.id).read().spent_seconds for r in (race, calm)]
    if "trainers" in windows:
        # At most each of the two trainers has stood at its rung until the store was back.
        assert spent[1] <= spent[0] <= spent[1] + 2 * 600
    else:
        assert spent[0] == spent[1]
    assert race.curve() == calm.curve()


def test_a_controller_that_has_waited_for_a_quarter_of_an_hour_does_not_stop_its_trainers() -> None:
    race = Race(controller=(400.0, 400.0 + 16 * MINUTE))
    with pytest.raises(StoreAway) as caught:
        race.run()
    assert caught.value.exit_code == 4
    assert 900 < race.executor.now - BEGINNING - 400 < 910
    # They have reported, or still train.
    assert set(race.exit_codes()) <= {0, None}
    race.executor.sleep(5 * MINUTE)
    race.run()
    assert set(race.exit_codes()) == {0}
    assert race.weights() == undisturbed().weights()


def test_what_is_refused_for_good_ends_the_controller_at_once_and_no_trainer() -> None:
    race = Race(controller=(400.0, 450.0), error=StoreError)
    with pytest.raises(StoreError, match="no way"):
        race.run()
    assert race.executor.now - BEGINNING < 410
    assert race.events_of("away") == []
    assert set(race.exit_codes()) == {None}
    race.executor.sleep(60.0)
    race.run()
    assert set(race.exit_codes()) == {0}
    assert race.weights() == undisturbed().weights()


def test_trainers_wait_for_the_store_until_the_grace_of_an_orphan_and_then_end_with_76() -> None:
    away = (400.0, 400.0 + 40 * MINUTE)
    race = Race(controller=away, trainers=away)
    with pytest.raises(StoreAway):
        race.run()
    race.executor.sleep(29 * MINUTE - (race.executor.now - BEGINNING - 400.0))
    assert set(race.exit_codes()) == {None}
    race.executor.sleep(15 * MINUTE)
    assert set(race.exit_codes()) == {ExitCode.ORPHANED}
    race.run()
    assert race.weights() == undisturbed().weights()


def test_trainers_that_the_store_refused_have_not_failed_their_seed() -> None:
    refused = Killed(3, 0, 200, exit_code=4, attempts=tuple(range(LOST_ATTEMPTS - 1)))
    race = Race(faults=(refused,))
    race.run()
    assert len(race.events_of("failed")) == LOST_ATTEMPTS - 1
    assert race.weights() == undisturbed().weights()


class Door:
    """A store that can be closed."""

    def __init__(self) -> None:
        self.inside, self.closed = MemoryStore(), False
        self.now = 0.0
        self.view = View(self.inside, lambda: StoreAway("closed") if self.closed else None)
        self.local = MemoryStore()
        self.outage = Outage(lambda: self.now)
        self.outbox = Outbox(self.view, self.local, self.outage)

    def commit(self, iteration: int) -> None:
        self.outbox.write(lambda store: bundle.commit(store, f"c/{iteration}/", {"state": b"1"}))


def test_what_was_kept_goes_to_the_store_before_anything_new_and_manifests_go_last() -> None:
    door = Door()
    door.closed = True
    door.commit(10)
    assert door.inside.objects == {}
    assert door.local.objects
    order: list[str] = []
    door.inside.before_write = lambda _number, key: order.append(key)
    door.closed = False
    door.commit(20)
    assert order == [
        "c/10/state", "c/10/manifest.json", "c/20/state", "c/20/manifest.json",
    ]  # fmt: skip
    assert door.local.objects == {}


def test_what_an_earlier_process_has_left_on_the_machine_goes_to_the_store() -> None:
    door = Door()
    bundle.commit(door.local, "c/10/", {"a": b"1"})
    door.outbox.flush()
    assert bundle.load(door.inside, "c/10/") == {"a": b"1"}
    assert door.local.objects == {}


def test_an_outage_lasts_until_the_store_itself_has_answered() -> None:
    door = Door()
    door.closed, door.now = True, 100.0
    door.commit(10)
    door.now = 160.0
    door.commit(20)
    assert door.outage.seconds == 60.0
    door.closed = False
    door.outbox.flush()
    assert door.outage.seconds == 0.0


def test_a_request_that_takes_its_whole_timeout_is_made_once_a_minute() -> None:
    door = Door()

    def slow() -> None:
        door.now += 10.0
        raise StoreAway("no answer in time")

    with pytest.raises(StoreAway):
        door.outage.ask(slow)
    assert not door.outage.due
    # Who has something else to do does not ask meanwhile.
    door.commit(10)
    assert door.inside.objects == {}
    door.now += 59.0
    assert not door.outage.due
    door.now += 1.0
    assert door.outage.due
    door.commit(20)
    assert bundle.load(door.inside, "c/10/") == bundle.load(door.inside, "c/20/")


def test_where_this_machine_keeps_nothing_either_the_writer_gets_the_error() -> None:
    door = Door()
    door.closed = True

    def full(_number: int, _key: str) -> None:
        raise StoreError("disk full")

    door.local.before_write = full
    with pytest.raises(StoreAway, match=r"this machine cannot keep it: disk full"):
        door.commit(10)


def test_a_heartbeat_is_renewed_though_somebody_sets_the_clock_back() -> None:
    race = Race()
    passed, wall = [0.0], [1e6]
    lease = Lease(race.store, race.study, clock=lambda: wall[0], monotonic=lambda: passed[0])
    lease.acquire(time.sleep)
    passed[0], wall[0] = 11.0, 1e6 - 7200.0
    lease.renew()
    beat = facts.read_heartbeat(race.store, race.study.id)
    assert beat is not None
    assert beat.time == 1e6 - 7200.0


def test_a_heartbeat_that_the_store_did_not_take_is_due_at_once_when_it_is_back() -> None:
    door = Door()
    study = open_study(door.inside, SETTINGS, DATASET)
    lease = Lease(door.view, study, clock=lambda: door.now, monotonic=lambda: door.now)
    lease.acquire(time.sleep)
    door.now, door.closed = 11.0, True
    with pytest.raises(StoreAway):
        lease.renew()
    door.now, door.closed = 12.0, False
    lease.renew()
    beat = facts.read_heartbeat(door.inside, study.id)
    assert beat is not None
    assert beat.time == 12.0
