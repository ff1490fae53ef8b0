import dataclasses
import time

import pytest

from liverseg.core.data.dataset import Dataset
from liverseg.errors import SettingsError, StudyError, StudyHeld
from liverseg.race.records import facts
from liverseg.race.records.study import load_study, open_study, study_ids
from liverseg.settings import from_mapping
from liverseg.steps.study import delete, extend
from liverseg.steps.study.study_choice import study_to_change
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Crash
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal

LARGER = from_mapping({"race": {"seeds": 8}}, SETTINGS)


def deleted(rehearsal: Rehearsal, **options: object) -> dict:
    executor = rehearsal.executor
    times = {"clock": executor.clock, "monotonic": executor.clock, "sleep": executor.sleep}
    return delete.run(rehearsal.store, executor, rehearsal.study, **(times | options))


def test_what_is_left_of_a_study_is_what_other_studies_may_use() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    store, prefix = rehearsal.store, f"studies/{rehearsal.study.id}/"
    store.put("cases/key/manifest.json", b"{}")
    other = open_study(store, LARGER, DATASET)
    keys = store.keys(prefix)
    size = sum(
        len(data)
        for key, data in store.objects.items()
        if ("/checkpoints/" in key or "/model/" in key) and not key.endswith("manifest.json")
    )
    shown = []
    result = deleted(rehearsal, progress=lambda *step: shown.append(step))
    assert store.keys(prefix) == []
    assert study_ids(store) == [other.id]
    assert result["kept"] == ["cases/"]
    assert result["jobs"] == 4 + 2 + 1
    assert result["bytes"] == size > 0
    assert len(keys) <= result["keys"] <= len(keys) + 1  # its stop
    assert dict(rehearsal.executor.states()) == {}
    assert [step[1:] for step in shown if step[0] == "files deleted"][-1][0] > 10


def test_a_deleted_study_is_opened_and_raced_anew() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    deleted(rehearsal)
    again = Rehearsal(rehearsal.store)
    assert again.run().started == 4 + 2 + 1


def test_trainers_that_run_without_a_controller_are_ended_first() -> None:
    rehearsal = Rehearsal()
    controller = rehearsal.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    controller.reconcile("end")
    assert any(state.running for state in rehearsal.executor.states().values())
    deleted(rehearsal)  # a minute later: the heartbeat has not changed
    assert dict(rehearsal.executor.states()) == {}
    assert rehearsal.store.objects == {}


def test_jobs_of_the_same_study_in_another_store_are_not_touched() -> None:
    rehearsal = Rehearsal()
    rehearsal.run(0)
    before = dict(rehearsal.executor.states())
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET, nonce=lambda: "ffffffff")
    executor = rehearsal.executor
    delete.run(
        store, executor, study,
        clock=executor.clock, monotonic=executor.clock, sleep=executor.sleep,
    )  # fmt: skip
    assert dict(executor.states()) == before


def test_a_controller_sees_that_its_study_is_stopped_and_the_study_is_deleted_then() -> None:
    rehearsal = Rehearsal()
    controller = rehearsal.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    controller.reconcile("end")
    waited = []

    def sleep(seconds: float) -> None:
        rehearsal.executor.sleep(seconds)
        if controller.lease.held:
            try:
                controller.reconcile("end")
            except StudyError:
                controller.lease.release()

    result = deleted(rehearsal, sleep=sleep, waits=lambda beat: waited.append(beat.owner))
    assert waited == [controller.lease.owner]
    assert result["jobs"] > 0
    assert rehearsal.store.objects == {}


def test_a_controller_that_does_not_end_keeps_its_study() -> None:
    rehearsal = Rehearsal()
    controller = rehearsal.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    rehearsal.executor.sleep(1)

    def sleep(seconds: float) -> None:
        rehearsal.executor.sleep(seconds)
        controller.lease.renew()

    with pytest.raises(StudyHeld, match=controller.lease.owner):
        deleted(rehearsal, sleep=sleep)
    assert study_ids(rehearsal.store) == [rehearsal.study.id]
    deleted(rehearsal, sleep=sleep, take_over=True)
    assert rehearsal.store.objects == {}


def test_a_study_that_is_extended_by_another_one_is_kept() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    child = extend.run(rehearsal.store, rehearsal.study.id, seeds=8)["study"]
    assert load_study(rehearsal.store, child).nonce != rehearsal.study.nonce
    before = dict(rehearsal.store.objects)
    with pytest.raises(StudyError, match=f"{child} extends it .* delete that one first"):
        deleted(rehearsal)
    assert rehearsal.store.objects == before


def test_cut_short_at_any_write_it_leaves_a_stopped_study_that_can_be_deleted() -> None:
    calm = Rehearsal()
    calm.run()
    first = calm.store.writes
    deleted(calm)
    for number in range(first, calm.store.writes, 5):
        rehearsal = Rehearsal()
        rehearsal.run()

        def die(n: int, _key: str, number=number) -> None:
            if n == number:
                raise Crash

        rehearsal.store.before_write = die
        with pytest.raises(Crash):
            deleted(rehearsal)
        rehearsal.store.before_write = None
        store, study = rehearsal.store, rehearsal.study.id
        if study_ids(store):
            others = [k for k in store.keys(f"studies/{study}/") if not k.endswith(LAST)]
            assert facts.is_stopped(store, study) or number == first or not others
            deleted(rehearsal)
        assert set(store.objects) <= {facts.heartbeat_key(study)}
        # What it may leave stops nobody.
        again = Rehearsal(store)
        again.run()
        assert facts.read_result(store, study) is not None


LAST = ("spec.json", "heartbeat.json")


def finished(store: MemoryStore, study: str) -> None:
    result = facts.Result(0, 0.5, "5" * 64, 8, 8, "model/")
    record.write(store, facts.result_key(study), result.to_mapping())


def test_a_command_that_changes_a_study_takes_the_only_one_and_does_not_guess() -> None:
    store = MemoryStore()
    with pytest.raises(StudyError, match="no study yet"):
        study_to_change(store, None)
    first = open_study(store, SETTINGS, DATASET).id
    assert study_to_change(store, None) == first
    finished(store, first)
    assert study_to_change(store, None) == first
    second = open_study(store, LARGER, DATASET).id
    assert study_to_change(store, None) == second
    third = open_study(store, SETTINGS, Dataset(DATASET.cases[:1])).id
    beat = facts.Heartbeat(1, "someone", load_study(store, third).nonce, 0.0)
    record.write(store, facts.heartbeat_key(third), beat.to_mapping())
    with pytest.raises(SettingsError) as refused:
        study_to_change(store, None)
    lines = str(refused.value).splitlines()
    assert "2 studies without a winner; say with --study which one" in lines[0]
    assert sorted(lines[1:]) == sorted(
        [
            f"  {second}  not started",
            f"  {third}  not running, last heartbeat 1970-01-01T00:00:00+00:00",
        ]
    )
    alive = dataclasses.replace(beat, time=time.time())
    record.write(store, facts.heartbeat_key(third), alive.to_mapping())
    with pytest.raises(SettingsError, match=f"  {third}  running, last heartbeat"):
        study_to_change(store, None)
    assert study_to_change(store, first) == first
    with pytest.raises(StudyError, match="no study 'nosuch'"):
        study_to_change(store, "nosuch")
    finished(store, second)
    finished(store, third)
    with pytest.raises(SettingsError, match="3 studies with a winner"):
        study_to_change(store, None)


@pytest.mark.parametrize(
    "damaged", [b'{"files": []}', b"{}", b'{"files": {"a": {"bytes": "many"}}}', b"{"]
)
def test_a_study_with_a_damaged_manifest_is_deleted(damaged: bytes) -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    store, study = rehearsal.store, rehearsal.study.id
    store.objects[f"studies/{study}/model/manifest.json"] = damaged
    size = sum(
        len(data)
        for key, data in store.objects.items()
        if "/checkpoints/" in key and not key.endswith("manifest.json")
    )
    assert deleted(rehearsal)["bytes"] == size > 0
    assert store.objects == {}


@pytest.mark.parametrize("damaged", [b"{}", b"[]", b"{"])
def test_a_study_is_deleted_beside_one_whose_spec_is_damaged(damaged: bytes) -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    other = open_study(rehearsal.store, LARGER, DATASET)
    rehearsal.store.objects[facts.spec_key(other.id)] = damaged
    deleted(rehearsal)
    assert study_ids(rehearsal.store) == [other.id]
