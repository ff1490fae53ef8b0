import pytest

from liverseg.errors import IntegrityError, StudyError
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.study import open_study, study_ids
from liverseg.settings import Settings, preset
from liverseg.steps.study.study_choice import latest_study, study_to_change
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.counting_store import CountingStore
from tests.race.rehearsal import DATASET, NONCE, SETTINGS


def test_the_latest_study_is_the_one_that_was_opened_or_run_last():
    store = MemoryStore()
    with pytest.raises(StudyError, match="no study yet"):
        latest_study(store)
    old = open_study(store, SETTINGS, DATASET, clock=lambda: 1.0)
    new = open_study(store, preset("demo"), DATASET, clock=lambda: 2.0)
    assert latest_study(store) == new.id
    beat = Heartbeat(1, "someone", NONCE, 3.0)
    record.write(store, facts.heartbeat_key(old.id), beat.to_mapping())
    assert latest_study(store) == old.id


def test_a_study_is_chosen_with_few_requests_however_much_the_store_has():
    store = CountingStore()
    studies = [open_study(store, settings, DATASET).id for settings in (SETTINGS, preset("demo"))]
    for study in studies:
        prefix = facts.study_prefix(study)
        store.objects |= {f"{prefix}curves/0001/{n}-a0_0.5.json": b"" for n in range(5_000)}
    choices = (latest_study, study_ids, lambda store: study_to_change(store, studies[0]))
    for choose in choices:
        store.calls = 0
        choose(store)
        assert store.calls <= 1 + 3 * len(studies)


def test_what_is_left_of_a_deleted_study_is_no_study():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    for left in ("heartbeat.json", "spec.json.old"):
        store.put(f"studies/deadbeef0000/{left}", b"{}")
    assert study_ids(store) == [study.id]
    assert latest_study(store) == study.id


OLD_SPEC = b'{"study": "000000000000", "settings": {}}'
HINT = "if another version of liverseg opened this study, start it anew in an empty store"


@pytest.mark.parametrize("settings", [None, SETTINGS])
@pytest.mark.parametrize("damaged", [OLD_SPEC, b"[]", b"{"])
def test_a_study_that_cannot_be_read_hides_no_other_one(
    damaged: bytes, settings: Settings | None
) -> None:
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    for other in ("000000000000", "ffffffffffff"):
        store.put(facts.spec_key(other), damaged)
    assert latest_study(store, settings) == study.id


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_a_store_with_nothing_but_a_study_of_another_version_says_so(
    settings: Settings | None,
) -> None:
    store = MemoryStore()
    store.put(facts.spec_key("000000000000"), OLD_SPEC)
    if settings is not None:  # one of other settings is none to choose
        open_study(store, preset("demo"), DATASET)
    with pytest.raises(IntegrityError, match=HINT):
        latest_study(store, settings)


def test_a_study_whose_heartbeat_is_damaged_hides_no_other_one() -> None:
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    other = open_study(store, preset("demo"), DATASET)
    store.put(facts.heartbeat_key(other.id), b"{}")
    assert latest_study(store) == study.id
