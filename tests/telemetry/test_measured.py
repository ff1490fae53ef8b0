"""A controller that is measured runs the same race, and says how it does."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from liverseg.errors import Fenced, StoreAway, StoreError
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.facts import ControllerStart
from liverseg.steps.race import race
from liverseg.steps.race.billing import Billing
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from liverseg.telemetry.measured_controller import ControllerMetrics
from liverseg.telemetry.measured_store import MeasuredStore, StoreMetrics
from liverseg.telemetry.study_collector import StudyCollector, openmetrics
from tests.race.rehearsal import Rehearsal
from tests.storage.contract import StoreContract
from tests.telemetry.test_study_collector import by_label, parsed, value


class TestMeasuredStore(StoreContract):
    def make(self) -> MeasuredStore:
        return MeasuredStore(MemoryStore(), StoreMetrics(CollectorRegistry()))


def sampled(registry: CollectorRegistry, name: str, **labels: str) -> float:
    number = registry.get_sample_value(f"liverseg_{name}", labels)
    assert number is not None, name
    return number


def run(rehearsal: Rehearsal, **options: Any) -> None:
    executor = rehearsal.executor
    times = {"clock": executor.clock, "monotonic": executor.clock, "sleep": executor.wait}
    capacity = Capacity(2, False, 5.0)
    race.run(rehearsal.store, executor, rehearsal.study, "end", capacity, **times, **options)


def metrics_of(rehearsal: Rehearsal) -> ControllerMetrics:
    return ControllerMetrics(StudyCollector(rehearsal.store, rehearsal.study.id))


def test_what_a_controller_costs_is_counted_and_the_race_is_the_same():
    plain, rehearsal = Rehearsal(), Rehearsal()
    run(plain)
    metrics = metrics_of(rehearsal)
    assert not metrics.is_ready()
    run(rehearsal, metrics=metrics)
    assert not metrics.is_ready()
    assert rehearsal.store.objects.keys() == plain.store.objects.keys()
    looks = sampled(metrics.registry, "reconcile_duration_seconds_count")
    assert looks > 10
    count = "store_request_duration_seconds_count"
    assert sampled(metrics.registry, count, verb="get") >= looks
    assert sampled(metrics.registry, "store_errors_total", verb="get") == 0
    assert sampled(metrics.registry, "controller_fenced_total") == 0
    study = rehearsal.study.id
    assert sampled(metrics.registry, "decisions_total", study=study) == 3


def test_errors_are_counted_by_verb_and_what_is_missing_is_none():
    metrics, store = StoreMetrics(registry := CollectorRegistry()), MemoryStore()

    def away(number: int, key: str) -> None:
        raise StoreAway("away")

    measured = MeasuredStore(store, metrics)
    with pytest.raises(StoreError, match="has no"):
        measured.get("a")
    store.before_write = away
    with pytest.raises(StoreAway):
        measured.put("a", b"")
    errors = {v: sampled(registry, "store_errors_total", verb=v) for v in ("get", "put", "list")}
    assert errors == {"get": 0, "put": 1, "list": 0}


def test_a_look_that_meets_a_store_that_is_away_is_an_error():
    rehearsal = Rehearsal()
    metrics = metrics_of(rehearsal)
    failing = [1, 2]

    def away(number: int, key: str) -> None:
        if key.endswith("decision.json") and failing:
            failing.pop()
            raise StoreAway("away")

    rehearsal.store.before_write = away
    run(rehearsal, metrics=metrics)
    assert sampled(metrics.registry, "reconcile_errors_total", what="store") == 2
    assert sampled(metrics.registry, "reconcile_errors_total", what="platform") == 0


def test_a_fenced_controller_says_so():
    rehearsal = Rehearsal()
    metrics = metrics_of(rehearsal)

    def take_over(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            rehearsal.controller().lease.acquire(rehearsal.executor.sleep, take_over=True)

    with pytest.raises(Fenced):
        run(rehearsal, metrics=metrics, on_event=take_over)
    assert sampled(metrics.registry, "controller_fenced_total") == 1


def test_every_controller_records_who_pays_once_it_holds_the_lease():
    rehearsal = Rehearsal()
    run(rehearsal, billing=Billing("ada", 2.5, "USD"))
    run(rehearsal, billing=Billing("grace"))
    keys = rehearsal.store.keys(facts.controllers_prefix(rehearsal.study.id))
    starts = [record.read(rehearsal.store, key, ControllerStart) for key in keys]
    assert [key.rpartition("/")[2] for key in keys] == ["1.json", "2.json"]
    assert [(s.generation, s.user) for s in starts] == [(1, "ada"), (2, "grace")]
    assert (starts[0].price_per_gpu_hour, starts[0].currency) == (2.5, "USD")
    assert (starts[0].gpus, starts[0].max_gpu_hours) == (2, 5.0)
    series, study = parsed(openmetrics(rehearsal.store)), rehearsal.study.id
    # The newest controller's.
    assert by_label(series, "study_info", "user") == {"grace": 1}
    assert value(series, "budget_gpu_seconds", study=study) == 5 * 3600
    assert not any(name == "liverseg_gpu_price_per_hour" for name, _ in series)


def test_who_pays_is_recorded_also_where_the_store_was_away_then():
    rehearsal = Rehearsal()
    failing = [True]

    def away(number: int, key: str) -> None:
        if "/controllers/" in key and failing.pop():
            failing.append(len(failing) > 5)
            raise StoreAway("away")

    rehearsal.store.before_write = away
    run(rehearsal, billing=Billing("ada"))
    assert len(rehearsal.store.keys(facts.controllers_prefix(rehearsal.study.id))) == 1
