"""A malformed fact of any kind is an error that names key, field, what was found and expected."""

import json
import re
from dataclasses import asdict, fields, replace
from functools import reduce
from typing import Any

import pytest

from liverseg.core.data.dataset import Dataset
from liverseg.errors import IntegrityError
from liverseg.race.audit.replay import replay
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import ControllerStart, CurvePoint, Heartbeat, Report, Result, Stop
from liverseg.race.records.key_forms import DECISION, FAILURE, PROMOTION, key_of
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Spec, load_study, open_study
from liverseg.settings import to_mapping
from liverseg.steps.data.cases import CaseManifest
from liverseg.steps.report.curves import read_curves
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal

SHA = "5" * 64
INPUT = Input(7, 0, 0.5, SHA)
FILES = {"best.safetensors": bundle.File(SHA, 4)}
GOOD: dict[type, Any] = {
    type(fact): fact
    for fact in (
        Report(7, 2, 0, 0.5, 19_500, 0.4, 20_000, {"a": 0.5}, "c/", SHA, SHA),
        CurvePoint(7, 2, 0, 500, 0.5, {"a": 0.5}, 0.4, 0.01, 0.1, 9.0, 1e9),
        Heartbeat(1, "owner", "0a1b2c3d", 1e9, waiting={"job": "a GPU"}),
        ControllerStart(3, "ada", 4, 12.0, 2.5, "EUR", "0.1.0", 1e9),
        Result(7, 0.5, SHA, 20_000, 19_500, "m/"),
        Stop(True, 1e9),
        Failure(7, "baseline", 1, -9, "killed by signal 9", "infrastructure", 500, 3),
        Promotion(2, 7, (INPUT,)),
        Decision(2, 20_000, (INPUT,), (7,), ()),
        Spec("ab12", "0a1b2c3d", to_mapping(SETTINGS), DATASET, SHA, 1, "0.1.0", 1e9, None),
        DATASET,
        bundle.Manifest(FILES),
        CaseManifest(FILES, (2, 3, 4), (5.0, 1.0, 1.0), {"R1": 2.5}),
    )
}  # fmt: skip
BIG = 10**400

MALFORMED = [
    # kind, field, a value that it must not have, what the message says beside the value
    (Report, "seed", -1, "expected `int` >= 0"),
    (Report, "seed", 10_000, "expected `int` <= 9999"),
    (Report, "seed", True, "expected `int`, got `bool`"),
    (Report, "seed", 7.0, "expected `int`, got `float`"),
    (Report, "rung", "last", "invalid enum value"),
    (Report, "rung", -1, "expected `int` >= 0"),
    (Report, "attempt", -1, "expected `int` >= 0"),
    (Report, "iterations", 2**53, "expected `int` <= 9007199254740991"),
    (Report, "iterations", BIG, "expected `int` <= 9007199254740991"),
    (Report, "best_jaccard", "high", "expected `float | null`, got `str`"),
    (Report, "best_jaccard", 1.5, "expected `float` <= 1.0"),
    (Report, "best_jaccard", BIG, "out of range"),
    (Report, "last_jaccard", -1.0, "expected `float` >= 0.0"),
    (Report, "best_iteration", None, "expected `int`, got `null`"),
    (Report, "cases", [], "expected `object`, got `array`"),
    (Report, "cases", {"a": 2}, "expected `float` <= 1.0"),
    (Report, "checkpoint", 3, "expected `str`, got `int`"),
    (Report, "checkpoint_sha256", "5" * 63, "matching regex"),
    (Report, "weights_sha256", SHA + "\n", "matching regex"),
    (CurvePoint, "iteration", -5, "expected `int` >= 0"),
    (CurvePoint, "jaccard", 1.1, "expected `float` <= 1.0"),
    (CurvePoint, "loss", "low", "expected `float | null`, got `str`"),
    (CurvePoint, "seconds_per_iteration", -0.1, "expected `float` >= 0.0"),
    (CurvePoint, "waiting_share", 2, "expected `float` <= 1.0"),
    (CurvePoint, "time", None, "expected `float`, got `null`"),
    (Heartbeat, "generation", -1, "expected `int` >= 0"),
    (Heartbeat, "owner", None, "expected `str`, got `null`"),
    (Heartbeat, "time", "soon", "expected `float`, got `str`"),
    (Heartbeat, "waiting", {"job": 1}, "expected `str`, got `int`"),
    (ControllerStart, "user", None, "expected `str`, got `null`"),
    (ControllerStart, "gpus", 0, "expected `int` >= 1"),
    (ControllerStart, "max_gpu_hours", 0.0, "expected `float` > 0.0"),
    (ControllerStart, "price_per_gpu_hour", -1, "expected `float` >= 0.0"),
    (ControllerStart, "started", "now", "expected `float`, got `str`"),
    (Result, "jaccard", 2, "expected `float` <= 1.0"),
    (Result, "weights_sha256", "0", "matching regex"),
    (Stop, "stopped", "yes", "expected `bool`, got `str`"),
    (Stop, "time", [], "expected `float`, got `array`"),
    (Failure, "exit_code", 256, "expected `int` <= 255"),
    (Failure, "reason", {}, "expected `str`, got `object`"),
    (Failure, "kind", "node", "invalid enum value"),
    (Failure, "generation", 1.5, "expected `int`, got `float`"),
    (Promotion, "rung", "baseline", "expected `int`, got `str`"),
    (Promotion, "inputs", {}, "expected `array`, got `object`"),
    (Promotion, "inputs[0]", {"seed": 7}, "missing required field `attempt`"),
    (Decision, "inputs[0].sha256", 5, "expected `str | null`, got `int`"),
    (Decision, "inputs[0].jaccard", -1, "expected `float` >= 0.0"),
    (Decision, "promoted[0]", 10_000, "expected `int` <= 9999"),
    (Decision, "pruned", "all", "expected `array`, got `str`"),
    (Spec, "settings", [], "expected `object`, got `array`"),
    (Spec, "dataset.cases[0]", {"name": "a"}, "missing required field `patient`"),
    (Spec, "dataset_sha256", "5" * 65, "matching regex"),
    (Spec, "training_version", "1", "expected `int`, got `str`"),
    (Spec, "parent", 12, "expected `str | null`, got `int`"),
    (Dataset, "cases[0]", 1, "expected `object`, got `int`"),
    (Dataset, "cases[1].spacing_mm[2]", "1", "expected `float`, got `str`"),
    (Dataset, "cases[0].role", "training set", "invalid enum value"),
    (Dataset, "preparation.in_plane_mm", None, "expected `float`, got `null`"),
    (Dataset, "excluded", {}, "expected `array`, got `object`"),
    (bundle.Manifest, "files", {"a": {"sha256": SHA}}, "missing required field `bytes`"),
    (bundle.Manifest, "files", {"a": {"sha256": "5", "bytes": 1}}, "matching regex"),
    (CaseManifest, "shape", [2, 3], "expected `array` of length 3"),
]


def malformed(kind: type, field: str, value: Any) -> bytes:
    """A good record of a kind, with another value of one field."""
    values = json.loads(record.encode(asdict(GOOD[kind])))
    *path, last = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", field)]
    reduce(lambda inner, step: inner[step], path, values)[last] = value
    # Not `record.encode`, which makes null of what is not finite.
    return json.dumps(values).encode()


@pytest.mark.parametrize(("kind", "field", "value", "expected"), MALFORMED)
def test_a_malformed_field_is_named_with_its_value_and_what_was_expected(
    kind, field, value, expected
):
    with pytest.raises(IntegrityError) as caught:
        record.decode(malformed(kind, field, value), "studies/ab12/some.json", kind)
    message = str(caught.value)
    problem = f"field '{field}' is {record.shown(value)}, "
    assert message.startswith(f"'studies/ab12/some.json' is damaged: {problem}")
    assert expected in message


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_record_is_read_and_one_without_any_of_its_required_fields_is_not(kind):
    values = asdict(GOOD[kind])
    assert record.decode(record.encode(values), "k", kind) == GOOD[kind]
    with pytest.raises(IntegrityError, match="'k' is damaged: object missing required field"):
        record.decode(b"{}", "k", kind)


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b"1e400"])
@pytest.mark.parametrize("kind", GOOD)
def test_what_is_no_object_is_refused(kind, text):
    with pytest.raises(IntegrityError, match="'k' is damaged"):
        record.decode(text, "k", kind)


def test_infinity_and_nan_are_refused():
    good = json.dumps(asdict(GOOD[Stop]))
    for text in ("1e400", "NaN", "Infinity"):
        with pytest.raises(IntegrityError, match=r"out of range|malformed"):
            record.decode(good.replace("1000000000.0", text).encode(), "k", Stop)


@pytest.mark.parametrize("kind", [Failure, Decision, Heartbeat, Stop])
def test_a_controller_that_meets_a_malformed_fact_ends_with_its_key(kind):
    rehearsal = Rehearsal(MemoryStore())
    study, store = rehearsal.study.id, rehearsal.store
    facts.set_stopped(store, study, True, 1e9)
    facts.set_stopped(store, study, False, 1e9)
    fact = GOOD[kind]
    keys = {
        Failure: lambda: fact.key(study),
        Decision: lambda: fact.key(study),
        Heartbeat: lambda: facts.heartbeat_key(study),
        Stop: lambda: store.keys(facts.stops_prefix(study))[-1],
    }
    key = keys[kind]()
    store.put(key, b'{"time": null}')
    with pytest.raises(IntegrityError, match=key):
        rehearsal.run()


REPLAYED = {
    Report: "rungs/2/reports/0007-a0_0.5_500_0.4_" + SHA,
    CurvePoint: "curves/0007/500-a0_0.5.json",
    Heartbeat: "heartbeat.json",
    Result: "results/baseline.json",
    Stop: "stops/000000.json",
    Failure: "rungs/baseline/failures/0007-a1.json",
    Promotion: "rungs/2/promotions/0007.json",
    Decision: "rungs/2/decision.json",
    Spec: "spec.json",
    bundle.Manifest: "checkpoints/0007/500-a0/manifest.json",
}


@pytest.mark.parametrize("kind", REPLAYED)
def test_a_malformed_fact_of_every_kind_is_a_finding_with_key_field_and_both_values(kind):
    field, value, expected = next(row[1:] for row in MALFORMED if row[0] is kind)
    rehearsal = Rehearsal(MemoryStore())
    key = facts.study_prefix(rehearsal.study.id) + REPLAYED[kind]
    rehearsal.store.put(key, malformed(kind, field, value))
    problems = {f.key: f.problem for f in replay(rehearsal.store, rehearsal.study.id).findings}
    assert problems[key].startswith(f"is damaged: field '{field}' is {record.shown(value)}, ")
    assert expected in problems[key]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Failure, "seed", 2),
        (Failure, "attempt", 7),
        (Failure, "rung", 1),
        (Decision, "rung", 1),
        (Promotion, "seed", 2),
        (Promotion, "rung", 1),
    ],
)
def test_a_fact_of_another_seed_rung_or_attempt_than_its_key_says_is_refused(kind, field, value):
    """Else the controller would try for ever to write what it misses under that key."""
    rehearsal = Rehearsal(MemoryStore())
    study, store = rehearsal.study.id, rehearsal.store
    key_fields = {"rung": 0, "seed": 3, "attempt": 0}
    fact = replace(
        GOOD[kind], **{f.name: key_fields[f.name] for f in fields(kind) if f.name in key_fields}
    )
    keys = {
        Failure: key_of(FAILURE, study, rung=0, seed=3, attempt=0),
        Decision: key_of(DECISION, study, rung=0),
        Promotion: key_of(PROMOTION, study, rung=0, seed=3),
    }
    key = keys[kind]
    # What an early promotion rests on is read where there is a failure.
    other = replace(GOOD[Failure], rung=0, seed=1, attempt=0)
    record.write(store, key_of(FAILURE, study, rung=0, seed=1, attempt=0), asdict(other))
    record.write(store, key, asdict(replace(fact, **{field: value})))
    problem = f"'{key}' is damaged: field '{field}' is {value}, its key 0*{key_fields[field]}"
    with pytest.raises(IntegrityError, match=problem):
        rehearsal.run()
    record.write(store, key, asdict(fact))
    SnapshotReader(store, study).read()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("500", lambda store, study: facts.best_jaccards(store, study)),
        ("500-a0_high", lambda store, study: facts.best_jaccards(store, study)),
        ("x-a0_0.5", lambda store, study: read_curves(store, study)[1]),
    ],
)
def test_a_malformed_key_of_a_validation_is_named(name, read):
    rehearsal = Rehearsal(MemoryStore())
    key = f"{facts.curves_prefix(rehearsal.study.id, 1)}{name}.json"
    rehearsal.store.put(key, b"{}")
    with pytest.raises(IntegrityError, match=f"'{key}' is not a valid key"):
        read(rehearsal.store, rehearsal.study.id)


def test_a_study_whose_settings_are_malformed_is_refused_with_its_key():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    key = facts.spec_key(study.id)
    spec = record.read(store, key)
    for settings in ({"race": {"seeds": "four"}}, {"race": {"seeds": 0}}, {"race": []}, {"x": 1}):
        record.write(store, key, spec | {"settings": settings})
        with pytest.raises(IntegrityError, match=key):
            load_study(store, study.id)


REPORT_NAME = "0007-a0_0.5_500_0.4_" + SHA + ".json"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("0/reports/0007-a0.json", "is not a valid key"),
        ("0/reports/10000" + REPORT_NAME[4:], "is not a valid key"),
        ("0/reports/00007" + REPORT_NAME[4:], "is not a valid key"),
        ("00/reports/" + REPORT_NAME, "is not a valid key"),
        ("0/reports/" + REPORT_NAME.replace("-a0", "-a00"), "is not a valid key"),
        (
            "0/reports/" + REPORT_NAME.replace("-a0", "-a" + 5000 * "1"),
            "is not a valid key",
        ),
        ("0/reports/" + REPORT_NAME.replace("-a0", "-a\u0663"), "is not a valid key"),
        ("0/reports/" + REPORT_NAME.replace("0.5", "1.5"), "'best_jaccard' is '1.5', expected `fl"),
        ("0/reports/" + REPORT_NAME.replace("0.5", "nan"), "'best_jaccard' is 'nan', expected `fl"),
        ("0/reports/" + REPORT_NAME.replace("_500", "_-5"), "'best_iteration' is '-5', expected"),
        ("0/reports/" + REPORT_NAME.replace("0.4", "low"), "'last_jaccard' is 'low', expected `fl"),
        (
            "0/reports/" + REPORT_NAME.replace(SHA, SHA[1:]),
            "'sha256' is '5+', expected `str` matching",
        ),
        ("0/attempts/0007-a0-NONCE/start_soon_node_.json", "'time' is 'soon', expected `float`"),
        ("0/attempts/0007-a0-NONCE/start_nan_node_.json", "'time' is 'nan', expected `float`"),
        (
            "0/attempts/0007-a0-NONCE/sample_-5_1.000.json",
            "'iteration' is '-5', expected `int` >= 0",
        ),
        ("0/attempts/0007-a0-NONCE/sample_5_inf.json", "'time' is 'inf', expected `float` < 9"),
        ("0/attempts/0007-a0-NONCE/end_5_1.000_none.json", "'exit_code' is None, expected `int`"),
        (
            "0/attempts/0007-a0-NONCE/closed_1.000_2.000_256.json",
            "'exit_code' is '256', expected `int`",
        ),
        ("0/attempts/0007-a0-NONCE/closed_1.000.json", "is not a valid event"),
        ("0/attempts/0007-a0-NONCE/paused_1.000.json", "is not a valid event"),
        ("0/attempts/seven-NONCE/sample_5_1.000.json", "is not a valid key"),
        ("0/attempts/0007-a0-NONCE/none.json", "is not a valid event"),
        ("0/failures/seven.json", "is not a valid key"),
        ("0/failures/00003-a0.json", "is not a valid key"),
        ("0/failures/0003-a00.json", "is not a valid key"),
        ("0/promotions/best.json", "is not a valid key"),
        ("first/promotions/0007.json", "is not a valid key"),
        ("0", "is not a valid key"),
    ],
)
def test_a_controller_that_meets_a_malformed_key_ends_with_the_key_and_the_value(key, problem):
    rehearsal = Rehearsal(MemoryStore())
    # Events of another nonce are another race's.
    key = key.replace("NONCE", rehearsal.study.nonce)
    malformed = facts.rungs_prefix(rehearsal.study.id) + key
    rehearsal.store.put(malformed, b"{}")
    with pytest.raises(IntegrityError, match=problem) as caught:
        rehearsal.run()
    assert f"{key.rpartition('/')[2]}' is" in str(caught.value)
    assert malformed in {f.key for f in replay(rehearsal.store, rehearsal.study.id).findings}
