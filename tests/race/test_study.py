import dataclasses
import json
import re

import pytest

from liverseg.core.data.dataset import Dataset
from liverseg.errors import IntegrityError, StudyError
from liverseg.race.records import facts
from liverseg.race.records import study as records
from liverseg.race.records.study import (
    Study,
    load_study,
    open_study,
    recorded_id,
    require_current,
    stored_nonce,
    study_id,
    study_ids,
)
from liverseg.settings import TRAINING_VERSION, Settings, from_mapping, preset, to_mapping
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import DATASET, NONCE, SETTINGS
from tests.race.rehearsal import record as case_record


def test_a_study_is_loaded_as_it_was_opened():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    assert load_study(store, study.id) == study
    assert study_ids(store) == [study.id]


def test_opening_a_study_again_changes_nothing():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET, clock=lambda: 1.0)
    before = store.get(facts.spec_key(study.id))
    assert open_study(store, SETTINGS, DATASET, clock=lambda: 2.0) == study
    assert store.get(facts.spec_key(study.id)) == before


def test_who_opens_a_study_second_has_the_nonce_of_the_first():
    store = MemoryStore()
    first = open_study(store, SETTINGS, DATASET)
    assert re.fullmatch("[0-9a-f]{8}", first.nonce)
    assert open_study(store, SETTINGS, DATASET).nonce == first.nonce
    assert stored_nonce(store, first.id) == load_study(store, first.id).nonce == first.nonce
    elsewhere = open_study(MemoryStore(), SETTINGS, DATASET)
    assert (elsewhere.id, elsewhere.nonce == first.nonce) == (first.id, False)


def test_two_writers_to_whom_a_store_confirms_the_same_key_both_have_what_it_kept():
    store = MemoryStore()

    def overtaken(_number: int, key: str) -> None:
        store.after_write = None
        spec = json.loads(store.objects[key]) | {"nonce": "ffffffff"}
        store.objects[key] = record.encode(spec)

    store.after_write = overtaken
    assert open_study(store, SETTINGS, DATASET).nonce == "ffffffff"


@pytest.mark.parametrize(
    ("nonce", "problem"),
    [
        (None, "object missing required field `nonce`"),
        (7, "field 'nonce' is 7, expected `str`, got `int`"),
        ("Zz", "field 'nonce' is 'Zz', expected `str` matching regex"),
    ],
)
def test_a_spec_without_a_right_nonce_is_refused(nonce, problem):
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    key = facts.spec_key(study.id)
    spec = record.read(store, key)
    del spec["nonce"]
    record.write(store, key, spec | ({} if nonce is None else {"nonce": nonce}))
    for read in (
        lambda: load_study(store, study.id),
        lambda: open_study(store, SETTINGS, DATASET),
    ):
        with pytest.raises(IntegrityError, match=f"'{key}' is damaged: {problem}"):
            read()


def test_the_id_changes_with_every_setting_but_the_presets_name():
    same = dataclasses.replace(SETTINGS, preset="another")
    other = from_mapping({"training": {"threads": 2}}, SETTINGS)
    assert study_id(same, DATASET) == study_id(SETTINGS, DATASET)
    assert study_id(other, DATASET) != study_id(SETTINGS, DATASET)


NAMES = [
    (topic, name)
    for topic, values in to_mapping(SETTINGS).items()
    if topic != "preset"
    for name in values
]


@pytest.mark.parametrize(("topic", "name"), NAMES)
def test_a_setting_that_is_added_with_its_default_leaves_the_study_as_it_was(topic, name):
    """The spec and the data set of an older version lack the setting, which has its default."""
    settings = dataclasses.replace(preset("demo"), **{topic: getattr(Settings(), topic)})
    store = MemoryStore()
    study = open_study(store, settings, DATASET)
    key = facts.spec_key(study.id)
    spec = record.read(store, key)
    del spec["settings"][topic][name]
    spec["dataset"]["preparation"].pop(name if topic == "preparation" else "", None)
    record.write(store, key, spec)
    older = load_study(store, study.id)
    assert older == study
    require_current(older)
    digest = spec["dataset_sha256"]
    assert recorded_id(spec["settings"], digest) == study.id


@pytest.mark.parametrize(("topic", "name"), NAMES)
def test_every_setting_that_differs_from_its_default_is_part_of_the_id(topic, name):
    changed = to_mapping(Settings())
    changed[topic][name] = "another"
    same = recorded_id(changed, "d") == recorded_id(to_mapping(Settings()), "d")
    # Bounds decide only which cases there are, and the data set's digest has these.
    assert same == (topic == "plausibility")


def test_the_id_changes_with_the_training_version(monkeypatch):
    before = study_id(SETTINGS, DATASET)
    monkeypatch.setattr(records, "TRAINING_VERSION", TRAINING_VERSION + 1)
    assert study_id(SETTINGS, DATASET) != before


def test_the_id_changes_with_the_data():
    larger = Dataset((*DATASET.cases, case_record("case_03")))
    assert study_id(SETTINGS, larger) != study_id(SETTINGS, DATASET)


def test_the_id_is_fit_for_a_kubernetes_name():
    name = study_id(preset("paper"), DATASET)
    assert len(name) == 12
    assert name.isalnum()
    assert name == name.lower()


def test_an_unknown_study_is_refused_with_the_known_ones():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    with pytest.raises(StudyError, match=f"no study 'nosuch'; known: {study.id}"):
        load_study(store, "nosuch")


def test_a_dataset_that_does_not_have_its_digest_is_refused():
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET)
    spec = record.read(store, facts.spec_key(study.id))
    spec["dataset"]["cases"][0]["role"] = "test"
    record.write(store, facts.spec_key(study.id), spec)
    with pytest.raises(IntegrityError, match="digest"):
        load_study(store, study.id)


def test_a_study_of_another_version_is_refused():
    study = open_study(MemoryStore(), SETTINGS, DATASET)
    require_current(study)
    with pytest.raises(StudyError, match="another version"):
        require_current(Study("0123456789ab", SETTINGS, DATASET, NONCE))


def test_a_study_has_the_schedule_of_its_settings():
    study = open_study(MemoryStore(), SETTINGS, DATASET)
    assert [(r.size, r.iterations) for r in study.rungs] == [(4, 2), (2, 4), (1, 8)]
