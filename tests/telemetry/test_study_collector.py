"""What the exporter says of a store is what the ledger says, for every study that can be read."""

import threading
from typing import Any, ClassVar

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from liverseg.core.race.ledger import OUTCOMES
from liverseg.errors import StoreAway
from liverseg.race.decide.cost import ledger
from liverseg.race.records import facts, spans
from liverseg.race.records.job import Attempt
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.settings import from_mapping
from liverseg.storage.memory import MemoryStore
from liverseg.telemetry import study_collector
from liverseg.telemetry.gpu_device import GpuCollector
from liverseg.telemetry.metrics import METRICS
from liverseg.telemetry.study_collector import StudyCollector, openmetrics
from liverseg.telemetry.study_facts import QUIET_SECONDS
from liverseg.telemetry.study_reader import LISTING_SECONDS, RESTING_SECONDS, StudyReader
from tests.counting_store import CountingStore
from tests.race.fault_script import Killed
from tests.race.rehearsal import SETTINGS, Rehearsal

KILLED = Attempt(0, 2, 0)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: bytes) -> Series:
    """Every value by its name and labels, as prometheus_client's own parser reads OpenMetrics."""
    values: Series = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in values, f"{key} is there twice"
            values[key] = sample.value
    return values


def value(series: Series, name: str, **labels: str) -> float:
    return series["liverseg_" + name, frozenset(labels.items())]


def by_label(series: Series, name: str, label: str, **labels: str) -> dict[str, float]:
    """The sum of the values of a name by one of its labels."""
    sums: dict[str, float] = {}
    for (other, of), number in series.items():
        named = dict(of)
        if other == "liverseg_" + name and labels.items() <= named.items():
            sums[named[label]] = sums.get(named[label], 0.0) + number
    return sums


def spent(rehearsal: Rehearsal) -> dict[str, Any]:
    """What the ledger says the race and the baseline spent, by outcome."""
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    cost = ledger(rehearsal.study, snapshot)
    return {o: cost[o]["seconds"] + cost["baseline"][o]["seconds"] for o in OUTCOMES}


def test_gpu_seconds_by_outcome_and_rung_are_those_of_the_ledger():
    rehearsal = Rehearsal(compare_baseline=True, faults=(Killed(2, 1, 4),))
    rehearsal.run("baseline")
    series = parsed(openmetrics(rehearsal.store))
    assert by_label(series, "gpu_seconds", "outcome") == pytest.approx(spent(rehearsal))
    assert spent(rehearsal)["repeated"] > 0
    rungs = by_label(series, "gpu_seconds", "rung")
    assert set(rungs) == {"0", "1", "2", "baseline"}
    assert rungs["0"] == pytest.approx(4 * 3.0)
    assert rungs["baseline"] == pytest.approx(9.0)


def test_a_race_that_has_ended_says_so():
    rehearsal = Rehearsal()
    rehearsal.run()
    series, study = parsed(openmetrics(rehearsal.store)), rehearsal.study.id
    assert by_label(series, "study_state", "state", study=study)["ended"] == 1
    assert by_label(series, "seeds", "state")["winner"] == 1
    assert by_label(series, "seeds", "state")["pruned"] == 3
    assert by_label(series, "promotions_total", "rung") == {"0": 2, "1": 1, "2": 1}
    assert value(series, "rung", study=study) == value(series, "rungs", study=study) == 3
    assert value(series, "decisions_total", study=study) == 3
    assert value(series, "remaining_gpu_seconds", study=study) == 0
    assert by_label(series, "attempts_total", "cause")["completed"] == 7
    # 2 seeds would train on from 2 to 8 iterations, one from 4, at 17 iterations in 23 s.
    assert value(series, "saved_gpu_seconds", study=study) == pytest.approx(16 * 23 / 16)
    assert not any("expected_end" in name for name, _ in series)


def test_a_restarted_and_a_second_controller_count_nothing_twice():
    rehearsal = Rehearsal()
    rehearsal.run(0)
    before = parsed(openmetrics(rehearsal.store))
    for _ in range(2):
        rehearsal.run(0)
    after, study = parsed(openmetrics(rehearsal.store)), rehearsal.study.id
    assert value(after, "lease_generation", study=study) == 3
    spent = ("liverseg_gpu_seconds", "liverseg_iterations")
    counted = {key for key in before if key[0].endswith("_total") or key[0] in spent}
    assert len(counted) > 20
    assert {key: after[key] for key in counted} == {key: before[key] for key in counted}


def test_a_damaged_study_hides_no_other_and_keeps_its_last_values():
    store = MemoryStore()
    first = Rehearsal(store)
    first.run()
    second = Rehearsal(store, settings=from_mapping({"race": {"seeds": 2}}, SETTINGS))
    second.run(0)
    collector = StudyCollector(store, monotonic=lambda: next(clock))
    clock = iter(range(0, 10_000, 100))
    collector.collect()
    key = facts.heartbeat_key(second.study.id)
    store.put(key, b"{}")
    # One that was never read says nothing but that it cannot be.
    store.put(facts.spec_key("unreadable"), b"{}")
    values: dict[tuple[str, str], float] = {}
    for family in collector.collect():
        for sample in family.samples:
            values[sample.name, sample.labels["study"]] = sample.value
    errors = {s: v for (name, s), v in values.items() if name.endswith("scrape_errors")}
    assert errors == {first.study.id: 0, second.study.id: 1, "unreadable": 1}
    assert values["liverseg_decisions_total", first.study.id] == 3
    assert values["liverseg_decisions_total", second.study.id] == 1
    assert ("liverseg_decisions_total", "unreadable") not in values


def test_a_store_that_is_away_is_waited_for_once_a_look_not_once_a_study():
    class Away(MemoryStore):
        asked: ClassVar[list[str]] = []
        begins: str | None = None

        def folders(self, prefix: str) -> list[str]:
            self._ask("list")
            return super().folders(prefix)

        def get(self, key: str) -> bytes:
            self._ask("get")
            return super().get(key)

        def _ask(self, verb: str) -> None:
            self.asked.append(verb)
            if self.begins in (verb, "list"):
                raise StoreAway("away")

    store = Away()
    for seeds in (2, 3, 4):
        Rehearsal(store, settings=from_mapping({"race": {"seeds": seeds}}, SETTINGS)).run(0)
    now = [0.0]
    collector = StudyCollector(store, monotonic=lambda: now[0])

    def errors() -> dict[str, float]:
        now[0] += RESTING_SECONDS + 1
        store.asked.clear()
        samples = [s for family in collector.collect() for s in family.samples]
        assert sum(s.value for s in samples if s.name == "liverseg_decisions_total") == 3
        named = [s for s in samples if s.name == "liverseg_exporter_scrape_errors"]
        return {s.labels["study"]: s.value for s in named}

    assert sum(errors().values()) == 0
    store.begins = "get"  # the store answers a listing, and then no more
    assert (sum(errors().values()), store.asked) == (3, ["list", "get"])
    assert collector.ready
    store.begins = "list"
    assert (sum(errors().values()), store.asked) == (4, ["list"])
    assert not collector.ready
    store.begins = None
    assert sum(errors().values()) == 0
    assert collector.ready


def test_a_look_that_takes_long_keeps_nobody_who_asks_whether_it_is_ready(monkeypatch):
    monkeypatch.setattr(study_collector, "READY_SECONDS", 0.01)
    looks, may_end = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def folders(self, prefix: str) -> list[str]:
            looks.set()
            assert may_end.wait(30)
            return super().folders(prefix)

    collector = StudyCollector(Slow())
    look = threading.Thread(target=collector.collect)
    look.start()
    assert looks.wait(30)
    assert not collector.ready
    may_end.set()
    look.join()
    assert collector.ready


def test_a_deleted_study_is_gone_at_the_next_look():
    rehearsal = Rehearsal()
    rehearsal.run()
    now = [0.0]
    collector = StudyCollector(rehearsal.store, monotonic=lambda: now[0])
    assert collector.collect()
    for key in rehearsal.store.keys("studies/"):
        rehearsal.store.delete(key)
    now[0] = RESTING_SECONDS + 1
    assert collector.collect() == []


def test_a_study_that_rests_is_asked_for_once_a_minute():
    store = CountingStore()
    rehearsal = Rehearsal(store)
    rehearsal.run()
    now = [0.0]
    collector = StudyCollector(store, monotonic=lambda: now[0])
    calls = []
    for now[0] in range(0, 3 * int(RESTING_SECONDS), 2):
        store.calls = 0
        collector.collect()
        calls.append(store.calls)
    # One listing of the folders.
    read = [number * 2 for number, asked in enumerate(calls) if asked > 1]
    assert {asked for asked in calls if asked <= 1} == {1}
    assert read[0] == 0
    assert len(read) == 4
    assert set(np.diff(read[1:])) == {RESTING_SECONDS}
    # Somebody trains the baseline after all.
    rehearsal.capacity = type(rehearsal.capacity)(2, True)
    rehearsal.run("baseline")
    now[0] = 4 * RESTING_SECONDS
    samples = [s for f in collector.collect() for s in f.samples]
    named = [s.value for s in samples if s.labels.get("rung") == "baseline"]
    assert sum(named) > 0


def test_every_name_is_one_that_promtool_accepts():
    for name, (kind, text) in METRICS.items():
        assert name.startswith("liverseg_")
        assert name.endswith("_total") == (kind == "counter")
        assert text.endswith(".")


def test_a_hundred_studies_that_rest_are_not_read_in_the_same_look():
    class Counting(MemoryStore):
        specs = 0

        def get(self, key: str) -> bytes:
            self.specs += key.endswith("/spec.json")
            return super().get(key)

    rehearsal, store, now = Rehearsal(), Counting(), [0.0]
    for number in range(100):
        for key, data in rehearsal.store.objects.items():
            store.put(key.replace(rehearsal.study.id, f"{number:012x}"), data)
    collector = StudyCollector(store, monotonic=lambda: now[0])
    collector.collect()
    for now[0] in (15.0, 30.0, 45.0, 60.0):
        store.specs = 0
        collector.collect()
        assert 10 <= store.specs <= 40


def test_what_a_trainer_did_after_its_rung_was_decided_counts_within_the_hour():
    rehearsal, now = Rehearsal(faults=(Killed(2, 0, 1, -9),)), [0.0]
    store, study = rehearsal.store, rehearsal.study
    collector = StudyCollector(store, monotonic=lambda: now[0])

    def used() -> float:
        samples = [s for family in collector.collect() for s in family.samples]
        return sum(s.value for s in samples if s.name == "liverseg_gpu_seconds")

    rehearsal.run(0)
    used()
    rehearsal.run()
    now[0] = RESTING_SECONDS + 1
    before = used()
    # Its job was lost, and its process had only been cut off from the store.
    late = spans.sample(
        2, SnapshotReader(store, study.id).read().spans[KILLED].samples[-1].time + 500
    )
    spans.write(store, study, KILLED, late)
    now[0] += LISTING_SECONDS
    assert used() == pytest.approx(before + 500) == pytest.approx(sum(spent(rehearsal).values()))


def test_a_study_rests_before_it_runs_and_an_hour_after_its_controller_died():
    rehearsal = Rehearsal()
    executor = rehearsal.executor
    reader = StudyReader(rehearsal.store, rehearsal.study.id, clock=lambda: 0.0, seconds=0.0)
    assert reader.read().rests(executor.now)
    controller = rehearsal.controller()
    controller.lease.acquire(executor.sleep)
    controller.reconcile("end")
    assert not reader.read().rests(executor.now)
    # Its trainers work on for a while.
    assert not reader.read().rests(executor.now + QUIET_SECONDS - 60)
    assert reader.read().rests(executor.now + QUIET_SECONDS + 60)


def test_nothing_is_said_of_a_gpu_where_there_is_no_driver():
    assert list(GpuCollector("8f2c", {"study": "s"}).collect()) == []
