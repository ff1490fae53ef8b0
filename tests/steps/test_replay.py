import json

import pytest

from liverseg.errors import IntegrityError, StudyError
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.study import load_study, open_study
from liverseg.settings import from_mapping
from liverseg.steps.study import extend, replay
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.faulty_executor import FaultyExecutor
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal, report_key, rising
from tests.steps.tiny_study import finished_study


def test_the_latest_study_is_replayed_and_the_outcome_is_ready_for_json():
    rehearsal = Rehearsal()
    rehearsal.run()
    result = json.loads(json.dumps(replay.run(rehearsal.store)))
    assert result["study"] == rehearsal.study.id
    assert result["findings"] == []
    assert result["checked"]["reports"] == 7


@pytest.mark.slow
def test_a_race_of_real_networks_is_accepted_and_one_altered_report_is_named():
    store, study = finished_study(MemoryStore())
    assert replay.run(store, study.id)["findings"] == []
    key = report_key(store, study.id, 0, 1, 0)
    record.write(store, key, record.read(store, key) | {"best_jaccard": 0.999})
    assert key in {finding["key"] for finding in replay.run(store, study.id)["findings"]}


def test_a_study_that_extends_another_is_accepted_where_new_seeds_beat_the_old_ones():
    rehearsal = Rehearsal()
    rehearsal.run()
    store = rehearsal.store
    child = load_study(store, extend.run(store, rehearsal.study.id, seeds=8)["study"])
    executor = FaultyExecutor(store, child, score=rising, startup_seconds=1.0)
    clock, sleep = executor.clock, executor.wait
    Controller(
        store, executor, child, Capacity(2, False), clock=clock, monotonic=clock, sleep=sleep
    ).run("end")
    assert facts.read_result(store, child.id).seed == 7
    assert replay.run(store, child.id)["findings"] == []


def test_a_study_that_does_not_exist_is_refused():
    with pytest.raises(StudyError, match="no study yet"):
        replay.run(MemoryStore())
    with pytest.raises(StudyError, match="no study 'nosuch'"):
        replay.run(Rehearsal().store, "nosuch")


@pytest.mark.parametrize("text", [b"{", b"{}", b'{"time": []}', b'{"time": "soon"}'])
def test_the_only_study_is_found_however_damaged_and_of_two_the_damaged_one_is_named(text):
    rehearsal = Rehearsal()
    key = facts.spec_key(rehearsal.study.id)
    rehearsal.store.put(key, text)
    assert {f["key"] for f in replay.run(rehearsal.store)["findings"]} == {key}
    open_study(rehearsal.store, from_mapping({"race": {"seeds": 3}}, SETTINGS), DATASET)
    with pytest.raises(IntegrityError, match=key):
        replay.run(rehearsal.store)
    assert replay.run(rehearsal.store, rehearsal.study.id)["findings"]


def test_a_heartbeat_without_a_time_is_reported_without_a_traceback():
    rehearsal = Rehearsal()
    open_study(rehearsal.store, from_mapping({"race": {"seeds": 3}}, SETTINGS), DATASET)
    rehearsal.store.put(facts.heartbeat_key(rehearsal.study.id), b"{}")
    with pytest.raises(IntegrityError, match="heartbeat"):
        replay.run(rehearsal.store)
