"""Every fact of a race, altered by hand, is named; a race that nobody touched is accepted."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pytest

from liverseg.race.audit import replay as audit
from liverseg.race.audit.replay import replay
from liverseg.race.records import facts
from liverseg.race.records import study as records
from liverseg.race.records.key_forms import DECISION, PROMOTION, key_of
from liverseg.settings import TRAINING_VERSION, Settings, from_mapping
from liverseg.simulation.simulated_trainer import invented_score
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST, sha256
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Crash, Killed
from tests.race.rehearsal import SETTINGS, Rehearsal, run_beside_a_second

SEED_3 = r"of seed 3 is Input\(.*, expected None by the reports and failures that can be read"
FAILED = {"attempt": None, "jaccard": None, "seed": 0, "sha256": None}
Change = Callable[[dict[str, Any]], object]


def raced() -> Rehearsal:
    """A race with an early promotion, a second attempt, a seed that failed, and the baseline."""
    store = MemoryStore()
    store.objects = dict(_raced())
    return Rehearsal(store)


@cache
def _raced() -> dict[str, bytes]:
    faults = [Killed(0, 0, 1), Killed(1, 0, 2, exit_code=78)]
    rehearsal = Rehearsal(gpus=4, faults=faults, compare_baseline=True)
    rehearsal.run("baseline")
    assert rehearsal.store.keys(key(rehearsal, "rungs/0/promotions/"))
    return rehearsal.store.objects


def altered(rehearsal: Rehearsal, key: str, change: Change) -> str:
    """Alter the record under `key` by hand and return its new SHA-256."""
    values = record.read(rehearsal.store, key)
    change(values)
    rehearsal.store.put(key, record.encode(values))
    return sha256(rehearsal.store.get(key)).hexdigest()


def moved(rehearsal: Rehearsal, key: str, change: Change) -> str:
    """Alter a report or validation by hand, give it the key that it then has, and return that."""
    values = record.read(rehearsal.store, key)
    rehearsal.store.delete(key)
    change(values)
    study = rehearsal.study.id
    if "/reports/" in key:
        report = record.decode(record.encode(values), key, facts.Report)
        data = record.encode(report.to_mapping())
        new = report.key(study, sha256=sha256(data).hexdigest())
    else:
        point = record.decode(record.encode(values), key, facts.CurvePoint)
        data = record.encode(point.to_mapping())
        new = point.key(study)
    rehearsal.store.put(new, data)
    return new


def named(rehearsal: Rehearsal) -> dict[str, str]:
    """Replay; return the problems by key."""
    problems: dict[str, str] = {}
    for finding in replay(rehearsal.store, rehearsal.study.id).findings:
        problems[finding.key] = problems.get(finding.key, "") + finding.problem + "\n"
    return problems


def key(rehearsal: Rehearsal, short: str) -> str:
    """Return a key; of reports and validations, the one that begins so."""
    prefix = facts.study_prefix(rehearsal.study.id) + short
    return next(iter(rehearsal.store.keys(prefix))) if short.endswith("_") else prefix


def test_a_study_that_is_deleted_while_it_is_replayed_raises_nothing():
    class Deleted(MemoryStore):
        """A store whose study's spec.json is gone at its second reading."""

        reads = 0

        def get(self, key: str) -> bytes:
            self.reads += key.endswith("/spec.json")
            if self.reads == 2:
                self.objects.pop(key, None)
            return super().get(key)

    rehearsal = Rehearsal(Deleted())
    rehearsal.store.reads = 0
    replay(rehearsal.store, rehearsal.study.id)
    assert rehearsal.store.reads >= 2


def test_a_race_that_nobody_touched_is_accepted_and_everything_was_looked_at():
    rehearsal = raced()
    done = replay(rehearsal.store, rehearsal.study.id)
    assert done.findings == ()
    assert done.checked == {
        "reports": 7, "failures": 2, "promotions": 1, "decisions": 3, "results": 2,
        "validations": 11, "checkpoints": 9, "files": 9 * 3 + 2 * 2, "models": 2, "stops": 0,
            "controllers": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("short", "change", "problem"),
    [
        ("rungs/0/reports/0003-a0_", {"best_jaccard": 0.9}, "belongs under '.*/0003-a0_0.9_2_"),
        ("rungs/0/reports/0003-a0_", {"weights_sha256": "0" * 64}, "belongs under '.*/0003-a0_"),
        ("rungs/0/reports/0003-a0_", {"seed": 2}, "belongs under '.*/0002-a0_"),
        ("curves/0003/2-a0_", {"jaccard": 0.9}, "belongs under '.*/2-a0_0.9.json'"),
        (
            "rungs/0/promotions/0003.json",
            {"inputs": []},
            "one of \\[\\] by its inputs, with 4 seeds still",
        ),
        ("rungs/0/promotions/0003.json", {"seed": 2}, "belongs under"),
        (
            "rungs/0/decision.json",
            {"promoted": [2, 3]},
            r"'promoted' is \(2, 3\), expected \(3, 2\)",
        ),
        (
            "rungs/1/decision.json",
            {"promoted": [2], "pruned": [3]},
            r"'pruned' is \(3,\), expected \(2,\)",
        ),
        ("rungs/1/decision.json", {"inputs": []}, r"of seeds \[\], expected seeds \[2, 3\]"),
        ("rungs/1/decision.json", {"iterations": 5}, "'iterations' is 5, expected 4 by the sche"),
        ("rungs/0/failures/0001-a0.json", {"attempt": 1}, "belongs under '.*/0001-a1.json'"),
        ("results/multi.json", {"seed": 2}, "'seed' is 2, expected 3 by '.*rungs/2/reports/0003-"),
        (
            "results/multi.json",
            {"jaccard": 0.9},
            "'jaccard' is 0.9, expected 0.38[0-9]* by '.*0003-a0",
        ),
        (
            "results/multi.json",
            {"weights_sha256": "0" * 64},
            "'weights_sha256' is '0{64}', expected '",
        ),
        ("results/baseline.json", {"iterations": 2}, "'iterations' is 2, expected 8 by '.*9999-a0"),
        ("spec.json", {"training_version": 0}, r"'training_version' is 0, expected \d+ by its id"),
        (
            "spec.json",
            {"dataset_sha256": "0" * 64},
            "digest is .*, field 'dataset_sha256' is 0{64}",
        ),
        ("spec.json", {"study": "another"}, "'study' is 'another', expected '.*' by its key"),
        ("model/model.json", {"seed": 2}, "SHA-256 is .*, expected .* by its manifest"),
        ("model/model.json", {"synthetic": False}, "'synthetic' is False, expected True by"),
        (
            "rungs/0/promotions/0003.json",
            {"inputs": [FAILED, FAILED]},
            r"of seeds \[0, 0\], expected seeds \[0\]",
        ),
        (
            "rungs/0/promotions/0003.json",
            {"inputs": [FAILED]},
            r"of seed 0 is Input\(seed=0.*, expected None by the reports and failures",
        ),
        (
            "rungs/0/decision.json",
            {"inputs": [FAILED]},
            r"Input\(seed=0.*, expected None by the re",
        ),
        ("rungs/0/decision.json", {"promoted": [2, 1]}, r"is \(2, 1\), expected \(3, 2\) by its"),
        ("rungs/0/decision.json", {"rung": 3}, "belongs under '.*/rungs/3/decision.json'"),
        (
            "rungs/0/promotions/0003.json",
            {"inputs": [{"attempt": 0, "jaccard": 0.5, "seed": 1, "sha256": "0" * 64}]},
            r"of seed 1 is Input\(.*jaccard=0.5, .*, expected None by the reports and failures",
        ),
    ],
)
def test_an_altered_record_is_named_with_what_it_says_and_what_follows(short, change, problem):
    rehearsal = raced()
    altered(rehearsal, key(rehearsal, short), lambda values: values.update(change))
    problems = named(rehearsal)
    assert key(rehearsal, short) in problems
    assert any(re.search(problem, text) for text in problems.values()), problems


@pytest.mark.parametrize(
    ("short", "change", "where", "problem"),
    [
        ("rungs/2/reports/0003-a0_", {"last_jaccard": 0.1}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"iterations": 4}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"best_iteration": 9}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"cases": {}}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"checkpoint": "a/"}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"seed": 2}, "rungs/2/decision.json", SEED_3),
        ("rungs/2/reports/0003-a0_", {"seed": 2}, "results/multi.json", "there is no report that"),
        (
            "rungs/2/reports/0003-a0_",
            {"weights_sha256": "0" * 64},
            "rungs/2/reports/0003-a0_",
            "'weights_sha256' is '0{64}', expected '.*' by '.*/0003/8-a0/manifest.json'",
        ),
        (
            "rungs/baseline/reports/9999-a0_",
            {"best_jaccard": 0.9},
            "results/baseline.json",
            "'jaccard' is 0.99[0-9]*, expected 0.9 by '.*/9999-a0_0.9_",
        ),
        (
            "rungs/baseline/reports/9999-a0_",
            {"seed": 3},
            "results/baseline.json",
            "'seed' is 9999, expected 3 by '.*/baseline/reports/0003-",
        ),
    ],
)
def test_an_altered_report_is_named_by_what_rests_on_it_though_its_key_says_the_same(
    short, change, where, problem
):
    rehearsal = raced()
    moved(rehearsal, key(rehearsal, short), lambda values: values.update(change))
    assert re.search(problem, named(rehearsal)[key(rehearsal, where)])


def test_a_promotion_and_a_decision_that_name_two_reports_of_one_attempt_are_distinguished():
    rehearsal = raced()
    report = key(rehearsal, "rungs/0/reports/0002-a0_")
    data = rehearsal.store.get(report)
    new = moved(rehearsal, report, lambda values: values.update(cases={}))
    rehearsal.store.put(report, data)

    def follow(values: dict[str, Any]) -> None:
        for entry in values["inputs"]:
            if entry["seed"] == 2:
                entry["sha256"] = new[-69:-5]

    promotion = key(rehearsal, "rungs/0/promotions/0003.json")
    altered(rehearsal, promotion, follow)
    problem = named(rehearsal)[promotion]
    where = key(rehearsal, "rungs/0/decision.json")
    assert re.search(f"sha256='{new[-69:-5]}'.*, expected one of '{where}'", problem)


@pytest.mark.parametrize(("rung", "problem"), [(2, "expected one below 2"), (7, "below 2")])
def test_a_promotion_or_decision_of_a_rung_that_there_is_not_is_named(rung, problem):
    rehearsal, study = raced(), raced().study.id
    promotion = record.read(rehearsal.store, key(rehearsal, "rungs/0/promotions/0003.json"))
    decision = record.read(rehearsal.store, key(rehearsal, "rungs/2/decision.json"))
    where = key_of(PROMOTION, study, rung=rung, seed=3)
    record.write(rehearsal.store, where, promotion | {"rung": rung})
    assert problem in named(rehearsal)[where]
    record.write(rehearsal.store, key_of(DECISION, study, rung=7), decision | {"rung": 7})
    assert "expected one below 3" in named(rehearsal)[key_of(DECISION, study, rung=7)]


def test_a_decision_that_names_a_report_of_another_rung_is_named():
    rehearsal = raced()
    decided = record.read(rehearsal.store, key(rehearsal, "rungs/0/decision.json"))["inputs"]
    earlier = next(entry for entry in decided if entry["seed"] == 3)
    where = key(rehearsal, "rungs/1/decision.json")
    altered(rehearsal, where, lambda values: values["inputs"].__setitem__(1, earlier))
    assert "seed 3 is Input(seed=3, attempt=0, jaccard=0.32" in named(rehearsal)[where]
    assert "expected None by the reports and failures" in named(rehearsal)[where]


def test_a_promotion_that_rests_on_a_seed_that_did_not_come_to_its_rung_is_named():
    rehearsal = raced()
    promotion = record.read(rehearsal.store, key(rehearsal, "rungs/0/promotions/0003.json"))
    where = key_of(PROMOTION, rehearsal.study.id, rung=1, seed=3)
    record.write(rehearsal.store, where, promotion | {"rung": 1})
    assert "of seeds [1, 2, 3], expected seeds [2, 3]" in named(rehearsal)[where]


def test_a_decision_is_missed_where_everybody_was_promoted_early():
    rehearsal = raced()
    promotion = record.read(rehearsal.store, key(rehearsal, "rungs/0/promotions/0003.json"))
    decision = record.read(rehearsal.store, key(rehearsal, "rungs/0/decision.json"))
    other = key_of(PROMOTION, rehearsal.study.id, rung=0, seed=2)
    record.write(rehearsal.store, other, promotion | {"seed": 2, "inputs": decision["inputs"]})
    assert named(rehearsal) == {}
    rehearsal.store.delete(key(rehearsal, "rungs/0/decision.json"))
    problem = named(rehearsal)[key(rehearsal, "rungs/1/decision.json")]
    assert problem == "there is no decision of rung 0 that can be read\n"


def test_a_promotion_waits_for_no_more_seeds_than_were_promoted_to_its_rung():
    rehearsal = Rehearsal(faults=[Killed(seed, 0, 1, exit_code=78) for seed in (0, 1, 2)])
    rehearsal.run()
    decision = record.read(rehearsal.store, key(rehearsal, "rungs/1/decision.json"))
    where = key_of(PROMOTION, rehearsal.study.id, rung=1, seed=3)
    promotion = {"rung": 1, "seed": 3, "inputs": decision["inputs"]}
    record.write(rehearsal.store, where, promotion)
    assert named(rehearsal) == {}


def test_a_report_of_other_bytes_is_named_by_the_decision_that_rests_on_it():
    rehearsal = raced()
    report = key(rehearsal, "rungs/0/reports/0003-a0_")
    moved(rehearsal, report, lambda values: values.update(best_jaccard=0.9))
    problem = named(rehearsal)[key(rehearsal, "rungs/0/decision.json")]
    assert f"sha256='{report[-69:-5]}'), expected None by the reports" in problem


def test_a_report_altered_together_with_every_hash_of_it_is_still_named():
    rehearsal = raced()
    report = key(rehearsal, "rungs/0/reports/0002-a0_")
    report = moved(rehearsal, report, lambda values: values.update(best_jaccard=0.9))
    digest = sha256(rehearsal.store.get(report)).hexdigest()

    def follow(values: dict[str, Any]) -> None:
        for entry in values["inputs"]:
            if entry["seed"] == 2:
                entry["sha256"] = digest

    names = ("rungs/0/decision.json", "rungs/0/promotions/0003.json")
    concluded = [key(rehearsal, name) for name in names]
    for where in concluded:
        altered(rehearsal, where, follow)
    problems = named(rehearsal)
    for where in concluded:
        assert "Input(seed=2, attempt=0, jaccard=0.22, " in problems[where]
        assert "expected Input(seed=2, attempt=0, jaccard=0.9, " in problems[where]


@pytest.mark.parametrize(
    "short",
    [
        "checkpoints/0003/8-a0/state.safetensors",
        "checkpoints/0003/8-a0/best.safetensors",
        "model/model.safetensors",
        "baseline-model/model.safetensors",
    ],
)
def test_a_single_byte_of_weights_is_named(short):
    rehearsal = raced()
    data = bytearray(rehearsal.store.get(key(rehearsal, short)))
    data[3] ^= 1
    rehearsal.store.put(key(rehearsal, short), bytes(data))
    problems = named(rehearsal)
    assert list(problems) == [key(rehearsal, short)]
    assert "its SHA-256 is" in problems[key(rehearsal, short)]


def test_an_altered_manifest_of_a_checkpoint_is_named_by_the_report_that_names_it():
    rehearsal = raced()
    where = key(rehearsal, "checkpoints/0003/2-a0/manifest.json")
    digest = altered(rehearsal, where, lambda values: values.update(seed=2))
    problems = named(rehearsal)
    report = key(rehearsal, "rungs/0/reports/0003-a0_")
    assert list(problems) == [report]
    problem = f"field 'checkpoint_sha256' is '[0-9a-f]+', expected '{digest}' by '{where}'"
    assert re.match(problem, problems[report])


def test_a_setting_of_the_study_is_named():
    rehearsal = raced()
    spec = key(rehearsal, "spec.json")
    altered(rehearsal, spec, lambda values: values["settings"]["training"].update(batch_size=3))
    problems = named(rehearsal)
    assert "by its settings, data set and training version" in problems[spec]


def test_a_study_of_another_training_version_is_accepted_whatever_the_defaults_were(monkeypatch):
    rehearsal = raced()
    changed = dataclasses.replace(Settings().training, learning_rate=0.123)
    defaults = dataclasses.replace(Settings(), training=changed)
    monkeypatch.setattr(records, "Settings", lambda: defaults)
    assert list(named(rehearsal)) == [key(rehearsal, "spec.json")]
    for module in (records, audit):
        monkeypatch.setattr(module, "TRAINING_VERSION", TRAINING_VERSION + 1)
    assert named(rehearsal) == {}


@pytest.mark.parametrize(
    ("gone", "where"),
    [
        ("rungs/0/reports/0003-a0_", "rungs/0/decision.json"),
        ("rungs/0/failures/0001-a0.json", "rungs/0/decision.json"),
        ("rungs/0/decision.json", "rungs/1/decision.json"),
        ("rungs/2/decision.json", "results/multi.json"),
        ("model/manifest.json", "results/multi.json"),
        ("model/model.safetensors", "model/manifest.json"),
        ("checkpoints/0003/8-a0/state.json", "checkpoints/0003/8-a0/manifest.json"),
    ],
)
def test_what_is_gone_is_missed_by_what_rests_on_it(gone, where):
    rehearsal = raced()
    rehearsal.store.delete(key(rehearsal, gone))
    assert key(rehearsal, where) in named(rehearsal)


def test_a_checkpoint_that_was_collected_is_counted_and_no_finding():
    rehearsal = raced()
    for name in rehearsal.store.keys(key(rehearsal, "checkpoints/0003/2-a0/")):
        rehearsal.store.delete(name)
    done = replay(rehearsal.store, rehearsal.study.id)
    assert done.findings == ()
    assert done.checked["collected"] == 1


def kinds_of_records() -> list[str]:
    """One key of each kind of record."""
    rehearsal = raced()
    prefix = facts.study_prefix(rehearsal.study.id)
    shorts = [k.removeprefix(prefix) for k in rehearsal.store.keys(prefix) if k.endswith(".json")]
    left_out = ("/attempts/", "state")
    kept = [s for s in shorts if not any(part in s for part in left_out)]
    kinds = {"/".join(re.findall(r"[a-z]+", s)[:2]): s for s in kept}
    return list(kinds.values())


def texts(data: bytes) -> list[bytes]:
    """What a hand or a disk may make of a record: cut short, entries gone or of another type."""
    damaged = [b"", data[: len(data) // 2], b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000]
    wrong = (None, True, -1, 1.5, 10**400, "x" * 300, "../../\ud800", [], [{}], [[]], {}, {"a": {}})
    values = json.loads(data)
    for name, value in values.items():
        damaged.append(json.dumps({k: v for k, v in values.items() if k != name}).encode())
        damaged += [
            json.dumps(values | {name: other}).encode() for other in wrong if other != value
        ]
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            for entry in inner:
                for other in wrong:
                    made: Any = inner | {entry: other}
                    made = [made, *value[1:]] if isinstance(value, list) else made
                    damaged.append(json.dumps(values | {name: made}).encode())
    return [text for text in damaged if text != data]


@pytest.mark.slow
def test_no_text_of_any_record_raises_and_what_is_no_fact_any_more_is_named():
    rehearsal = raced()
    for short in kinds_of_records():
        where = key(rehearsal, short)
        good = rehearsal.store.get(where)
        for number, text in enumerate(texts(good)):
            rehearsal.store.objects[where] = text
            findings = replay(rehearsal.store, rehearsal.study.id).findings
            assert all("\n" not in finding.problem for finding in findings)
            if number < 7 and short != "baseline-model/model.json":
                assert where in {finding.key for finding in findings}, (short, text)
        rehearsal.store.objects[where] = good


@pytest.mark.parametrize("gpus", [1, 2, 3, 16])
def test_a_race_is_accepted_after_every_reconcile_of_its_controller(gpus):
    faults = [Killed(2, 1, 3), Killed(1, 0, 1, exit_code=78), Killed(0, 0, 1, attempts=(0, 1, 2))]
    rehearsal = Rehearsal(gpus=gpus, faults=faults)
    looks = 0

    def look(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert named(rehearsal) == {}
        rehearsal.executor.sleep(seconds)

    rehearsal.controller(sleep=look).run("end")
    assert named(rehearsal) == {}
    assert looks > 20


@pytest.mark.parametrize("script", range(6))
def test_a_race_with_faults_early_promotions_and_restarts_is_accepted(script):
    settings = from_mapping({"race": {"seeds": 16, "maximum_iterations": 32}}, SETTINGS)
    rng = np.random.default_rng(script)
    faults = []
    for rung, seed in itertools.product(range(5), range(16)):
        if rng.random() < 0.3:
            reached = int(rng.integers(2**rung, 2 ** (rung + 1))) + 1
            faults.append(Killed(seed, rung, reached, int(rng.choice([-9, 1, 0, 75, 76, 78]))))
    writes = {int(rng.integers(start, start + 60)) for start in (5, 150, 300)}

    def crash(number: int, _key: str) -> None:
        if number in writes:
            raise Crash

    rehearsal = Rehearsal(
        MemoryStore(before_write=crash),
        settings=settings,
        faults=faults,
        gpus=int(rng.integers(1, 6)),
        score=lambda seed, iteration: invented_score(seed + 100 * script, 2000 * iteration),
    )
    for _ in range(len(writes) + 1):
        with suppress(Crash):
            rehearsal.run()
    assert facts.read_result(rehearsal.store, rehearsal.study.id) is not None
    assert named(rehearsal) == {}


@pytest.mark.parametrize("write", range(1, 9))
def test_a_race_of_two_controllers_is_accepted(write):
    rehearsal = Rehearsal(gpus=4, faults=[Killed(0, 0, 1)])
    parts = ("/promotions/", "/decision.json", "/model/", "/results/")
    run_beside_a_second(rehearsal, write, parts)
    assert named(rehearsal) == {}


def test_what_a_trainer_removes_while_it_is_looked_at_is_no_finding():
    rehearsal = raced()
    prefix = key(rehearsal, "checkpoints/0003/2-a0/")
    store = MovingStore(rehearsal.store, prefix + MANIFEST, prefix)
    assert replay(store, rehearsal.study.id).findings == ()
    assert prefix + MANIFEST not in store.objects


class MovingStore(MemoryStore):
    """Loses everything below `lost` after `at` was read."""

    def __init__(self, before: MemoryStore, at: str, lost: str) -> None:
        super().__init__()
        self.objects = dict(before.objects)
        self._at, self._lost = at, lost

    def get(self, key: str) -> bytes:
        data = super().get(key)
        if key == self._at:
            for name in self.keys(self._lost):
                self.delete(name)
        return data
