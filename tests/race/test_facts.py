import dataclasses
import math
from hashlib import sha256

import pytest

from liverseg.errors import IntegrityError
from liverseg.race.records import facts, reports
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import CurvePoint, Report
from liverseg.race.records.job import Attempt, Job, parse_job_name
from liverseg.race.records.key_forms import DECISION, FAILURE, PROMOTION, key_of
from liverseg.settings import BASELINE_SEED
from liverseg.steps.report.curves import read_curves
from liverseg.steps.results import result_keys
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import NONCE

REPORT = Report(7, 2, 0, 0.5, 19_500, 0.4, 20_000, {"a": 0.5}, "c/", "a" * 64, "b" * 64)
POINT = CurvePoint(7, 2, 0, 500, 0.5, {"a": 0.5}, 0.4, 0.01, 0.1, 9.0, 1e9)


def test_keys_are_those_that_are_documented():
    assert facts.spec_key("ab12") == "studies/ab12/spec.json"
    assert facts.heartbeat_key("ab12") == "studies/ab12/heartbeat.json"
    assert facts.checkpoint_prefix("ab12", 7, 500, 1) == "studies/ab12/checkpoints/0007/500-a1/"
    assert POINT.key("ab12") == "studies/ab12/curves/0007/500-a0_0.5.json"
    assert (
        key_of(FAILURE, "ab12", rung=2, seed=7, attempt=0)
        == "studies/ab12/rungs/2/failures/0007-a0.json"
    )
    assert key_of(PROMOTION, "ab12", rung=2, seed=7) == "studies/ab12/rungs/2/promotions/0007.json"
    assert key_of(DECISION, "ab12", rung=2) == "studies/ab12/rungs/2/decision.json"
    assert facts.result_key("ab12") == "studies/ab12/results/multi.json"
    assert facts.result_key("ab12", "baseline") == "studies/ab12/results/baseline.json"
    assert result_keys.disagreement_key("ab12") == "studies/ab12/disagreement.json"
    assert facts.model_prefix("ab12") == "studies/ab12/model/"
    assert facts.model_prefix("ab12", "baseline") == "studies/ab12/baseline-model/"


def test_a_jobs_name_tells_study_seed_rung_and_attempt():
    job = Job.of("ab12", NONCE, 7, 2, 0, 20_000)
    assert job.name == "lv-ab12-0a1b2c3d-s0007-r2-a0"
    assert parse_job_name(job.name) == ("ab12", NONCE, Attempt(2, 7, 0))


def test_the_baseline_has_a_name_of_its_own():
    job = Job.of("ab12", NONCE, BASELINE_SEED, 4, 1, 80_000)
    assert job.at.rung == "baseline"
    assert parse_job_name(job.name) == ("ab12", NONCE, Attempt("baseline", BASELINE_SEED, 1))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "lv-ab12",
        "lv-ab12-0a1b2c3d-s7-r2-a0",
        "lv-ab12-0a1b2c3d-s9999-r2-a0",
        "lv-ab12-0a1b2c3d-s0007-baseline-a0",
        "lv-ab12-s0007-r2-a0",
    ],
)
def test_other_names_are_no_jobs(name):
    assert parse_job_name(name) is None


@pytest.mark.parametrize(
    "fact",
    [
        REPORT,
        POINT,
        Failure(7, "baseline", 1, -9, "killed by signal 9", "infrastructure", 500, 3),
        Promotion(2, 7, (Input(7, 0, 0.5, "5" * 64), Input(8, None, None, None))),
        Decision(2, 20_000, (Input(7, 0, 0.5, "5" * 64),), (7,), ()),
    ],
)
def test_facts_are_read_back_as_they_were_written(fact):
    assert record.decode(record.encode(fact.to_mapping()), "key", type(fact)) == fact


def test_entries_of_a_later_version_are_passed_over():
    later = record.encode(REPORT.to_mapping() | {"new": 1})
    assert record.decode(later, "key", Report) == REPORT


def test_a_report_is_ranked_by_the_best_or_the_last_value():
    assert REPORT.score("best") == 0.5
    assert REPORT.score("last") == 0.4


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_report_without_a_finite_jaccard_has_no_score(value):
    report = dataclasses.replace(REPORT, best_jaccard=value)
    assert record.decode(record.encode(report.to_mapping()), "key", Report).score("best") is None


def test_a_report_is_committed_once():
    store = MemoryStore()
    reports.write_report(store, "ab12", REPORT)
    reports.write_report(store, "ab12", REPORT)
    (key,) = store.keys("")
    digest = sha256(store.get(key)).hexdigest()
    assert key == f"studies/ab12/rungs/2/reports/0007-a0_0.5_19500_0.4_{digest}.json"
    named = reports.parse(key)
    assert named == reports.ReportKey(7, 2, 0, 0.5, 19_500, 0.4, digest)
    assert reports.read_report(store, "ab12", named) == REPORT
    store.put(key, store.get(key).replace(b"0.4", b"0.9"))
    with pytest.raises(IntegrityError, match=f"{key}' is damaged: its SHA-256 is .* says {digest}"):
        reports.read_report(store, "ab12", named)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 1e-17, 0.1 + 0.2, 1.0])
def test_a_value_comes_back_from_the_key_bit_for_bit(value):
    report = dataclasses.replace(REPORT, best_jaccard=value)
    named = reports.parse(report.key("ab12", sha256="0" * 64))
    assert named.best_jaccard == (value if value is not None and math.isfinite(value) else None)


@pytest.mark.parametrize(
    "name", ["0007-a0.json", "0007_0.5_500_0.4_ab.json", "7_0.5_5_0.4_ab.json"]
)
def test_a_key_that_no_trainer_writes_is_named(name):
    with pytest.raises(IntegrityError, match=f"rungs/2/reports/{name}' is not a valid key"):
        reports.parse(f"studies/ab12/rungs/2/reports/{name}")


def test_checkpoints_are_the_committed_ones_newest_first():
    store = MemoryStore()
    for iteration, attempt in ((500, 0), (1000, 1), (1000, 0), (10_000, 0)):
        prefix = facts.checkpoint_prefix("ab12", 7, iteration, attempt)
        bundle.commit(store, prefix, {"state.json": b"{}"})
    store.put(facts.checkpoint_prefix("ab12", 7, 20_000, 0) + "state.json", b"not committed")
    checkpoints = facts.checkpoints(store, "ab12", 7)
    assert [(c.iteration, c.attempt) for c in checkpoints] == [
        (10_000, 0),
        (1000, 0),
        (1000, 1),
        (500, 0),
    ]
    assert checkpoints[0].prefix == facts.checkpoint_prefix("ab12", 7, 10_000, 0)


def test_a_curve_has_one_entry_an_iteration_that_of_the_lowest_attempt():
    store = MemoryStore()
    for iteration, attempt in ((1000, 1), (500, 0), (1000, 2)):
        point = dataclasses.replace(POINT, iteration=iteration, attempt=attempt)
        facts.write_curve(store, "ab12", point)
    curve = read_curves(store, "ab12")[7]
    assert [(c["iteration"], c["attempt"]) for c in curve] == [(500, 0), (1000, 1)]
    assert facts.best_jaccards(store, "ab12") == {7: 0.5}
