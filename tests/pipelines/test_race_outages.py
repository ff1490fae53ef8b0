"""A task that races waits as long for its store before and after the race as during it."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from liverseg.race.decide.reconcile import Capacity
from liverseg.steps import tasks
from liverseg.steps.race import logged_race, race
from liverseg.steps.race.race_logger import RaceLogger
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import LocatedStore
from liverseg.storage.s3 import store as s3_store
from tests.s3_server import KINDS, S3Server
from tests.steps.tiny_study import InThisProcess, study_in
from tests.storage.faulty_proxy import Fault, FaultyProxy

# The store's own patience, and how long it is away.
SHORT_SECONDS = 0.3
AWAY_SECONDS = 1.5
WHERE = ("process", "", "{}", "{}")
BILL = ("", 0.0, "EUR")


@dataclass
class Nth(Fault):
    """A fault of the nth request that it means."""

    nth: int = 1

    def hits(self, method: str, path: str) -> bool:
        """Whether it concerns this request."""
        if super().hits(method, path):
            self.nth -= 1
            return self.nth == 0
        return False


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    if KINDS == ("named",):
        pytest.skip("the environment of a server that is named has no proxy in it")
    server = S3Server(KINDS[0], tmp_path)
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield server
    server.stop()


def raced(store: LocatedStore) -> str:
    """Put a study that was raced to its end into the store; return its id."""
    memory = MemoryStore()
    study = study_in(memory)
    race.run(memory, InThisProcess(memory), study, "baseline", Capacity(2, True))
    for key, data in memory.objects.items():
        store.put(key, data)
    return study.id


@pytest.mark.slow
@pytest.mark.parametrize("task", ["rung", "baseline"])
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_an_outage_is_waited_for_before_during_and_after_the_race(
    when: str, task: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    class Heard(RaceLogger):
        def __call__(self, event: dict[str, object]) -> None:
            heard.append(f"{event['event']} {event.get('what')}")
            super().__call__(event)

    store = server.store()
    study = raced(store)
    monkeypatch.setattr(s3_store, "OUTAGE_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(logged_race, "RaceLogger", Heard)
    with FaultyProxy(server.endpoint).running() as proxy:

        def fail() -> None:
            proxy.faults[:] = [Fault("refuse", times=math.inf)]
            threading.Timer(AWAY_SECONDS, proxy.faults.clear).start()

        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        if when == "before":
            fail()
        else:
            # The lease is taken with the first heartbeat and released with the second.
            nth = {"during": 1, "after": 2}[when]
            fault = Nth("lose", "PUT", "heartbeat.json", meanwhile=fail, nth=nth)
            proxy.faults.append(fault)
        if task == "rung":
            page = tmp_path / "page.html"
            limits = (1, 0.0, False, False)
            assert tasks.rung(store.url, study, "end", limits, WHERE, BILL, str(page))
            assert page.exists()
        else:
            assert tasks.baseline(store.url, study, (1, 0.0, True, False), WHERE, BILL)
        assert proxy.faults == []
    # The controller's own store gives up early, so that it can tell and look at its trainers.
    assert heard.count("away store") == heard.count("back store") == (when == "during")
