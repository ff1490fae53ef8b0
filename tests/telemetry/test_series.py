"""A large race has few series, and none of them has the name of a case or a patient."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from liverseg.core.data.dataset import Dataset
from liverseg.race.records import spans
from liverseg.race.records.decisions import Failure
from liverseg.race.records.job import Attempt
from liverseg.race.records.study import open_study
from liverseg.settings import from_mapping
from liverseg.storage.memory import MemoryStore
from liverseg.telemetry.gpu_time import RECENT_SECONDS
from liverseg.telemetry.race_progress import CAUSES, ended_attempts
from liverseg.telemetry.study_collector import StudyCollector, openmetrics
from liverseg.telemetry.study_reader import StudyReader
from tests.race.fault_script import Killed
from tests.race.rehearsal import NONCE, SETTINGS, Rehearsal, record
from tests.telemetry.test_study_collector import by_label, parsed

# Of a study with 5 rungs and a baseline: GPU time and iterations take 48 of these.
SERIES_A_STUDY = 150


def test_no_case_or_patient_is_named_in_any_series():
    store = MemoryStore()
    telling = replace(record("Doe_Jane"), patient="1970-01-01 Jane Doe")
    cases = Dataset((telling,), excluded=(("Roe_Richard", "Roe_Richard/liver: empty"),))
    study = open_study(store, SETTINGS, cases, nonce=lambda: NONCE)
    rehearsal = Rehearsal(store)
    rehearsal.study = study
    rehearsal.executor = type(rehearsal.executor)(store, study, startup_seconds=1.0)
    rehearsal.executor.gpus = 2
    rehearsal.run()
    lines = openmetrics(store, study.id).decode().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    assert 'liverseg_step_cases{outcome="refused",step="scan"' in text
    assert re.findall("(?i)doe|roe|jane|richard|1970", text) == []


@pytest.mark.slow
def test_a_race_of_a_thousand_seeds_has_no_more_series_than_a_small_one():
    settings = from_mapping({"race": {"seeds": 1000, "maximum_iterations": 32}}, SETTINGS)
    large = Rehearsal(settings=settings, gpus=8)
    controller = large.controller()
    controller.lease.acquire(large.executor.sleep)
    while not large.executor.states():
        controller.reconcile("end")
    large.executor.sleep(1.5)  # eight have begun
    series = Counter(name for name, _ in parsed(openmetrics(large.store)))
    assert series["liverseg_attempt_last_progress_timestamp_seconds"] == 8
    assert sum(series.values()) < SERIES_A_STUDY


@pytest.mark.slow
def test_a_hundred_studies_have_a_hundred_times_as_many():
    race = Rehearsal(compare_baseline=True)
    race.run("baseline")
    store = MemoryStore()
    for number in range(100):
        for key, data in race.store.objects.items():
            store.put(key.replace(race.study.id, f"{number:012x}"), data)
    series = parsed(openmetrics(store))
    assert len({dict(labels)["study"] for _, labels in series}) == 100
    assert len(series) < 100 * SERIES_A_STUDY


def test_attempts_are_listed_only_where_they_ran_in_pods_and_for_a_day():
    rehearsal = Rehearsal()
    store, study = rehearsal.store, rehearsal.study
    for seed, pod in ((0, "uid-1"), (1, "")):
        at = Attempt(0, seed, 0)
        spans.write(store, study, at, spans.start(1000.0, "node", pod))
        spans.write(store, study, at, spans.end(0, 1030.0, 75))

    def listed(now: float) -> dict[tuple[str, str], float]:
        families = StudyCollector(store, clock=lambda: now).collect()
        return {
            (sample.labels["pod_uid"], sample.labels["seed"]): sample.value
            for family in families
            for sample in family.samples
            if sample.name == "liverseg_attempt_gpu_seconds"
        }

    assert listed(1030.0 + RECENT_SECONDS - 1) == {("uid-1", "0"): 30.0}
    assert listed(1030.0 + RECENT_SECONDS) == {}


def test_every_end_of_an_attempt_has_its_cause():
    faults = (
        Killed(0, 0, 1, -9), Killed(1, 0, 1, 78), Killed(2, 0, 1, 75), Killed(3, 0, 1, 76),
        Killed(3, 1, 3, 4),
    )  # fmt: skip
    rehearsal = Rehearsal(faults=faults)
    rehearsal.run()
    causes = by_label(parsed(openmetrics(rehearsal.store)), "attempts_total", "cause")
    assert set(causes) == set(CAUSES)
    assert {cause: number for cause, number in causes.items() if number} == {
        "completed": 6, "killed": 1, "nan": 1, "interrupted": 1, "orphaned": 1, "store": 1,
    }  # fmt: skip


def test_a_failure_says_more_than_that_the_job_was_closed_and_a_report_less():
    rehearsal = Rehearsal()
    facts = StudyReader(rehearsal.store, rehearsal.study.id).read()
    ends = [Attempt(0, 0, number) for number in range(4)]
    failures = (
        Failure(0, 0, 0, None, "", "stalled"),
        Failure(0, 0, 1, None, "", "straggler"),
        Failure(0, 0, 2, None, "", "infrastructure"),
    )
    snapshot = replace(facts.snapshot, closed=frozenset(ends))
    causes = ended_attempts(replace(facts, snapshot=snapshot, failures=failures))
    assert [causes[at] for at in ends] == ["stalled", "straggler", "unknown", "superseded"]
