from collections.abc import Callable

import pytest

from liverseg.race.records import facts
from liverseg.race.records.study import Study
from liverseg.steps.cache_token import prepared_token, results_token
from liverseg.steps.data.cases import case_prefix, prediction_prefix, segmentation_prefix
from liverseg.steps.results import evaluate
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore
from tests.steps.tiny_study import finished_study, study_in

REPORT = b"<html></html>"


@pytest.fixture(scope="module")
def finished() -> tuple[ObjectStore, Study]:
    store, study = finished_study()
    evaluate.run(store, study)
    store.put(facts.report_page_key(study.id), REPORT)
    return store, study


def copy_of(store: ObjectStore) -> MemoryStore:
    other = MemoryStore()
    for key in store.keys(""):
        other.put(key, store.get(key))
    return other


def test_the_token_of_prepared_cases_stays_while_all_of_them_are_there() -> None:
    store = MemoryStore()
    study = study_in(store)
    bundle.delete(store, case_prefix("key1"))
    before = prepared_token(store, study)
    study_in(store)
    # What the run with this token has prepared is what the next run finds.
    assert prepared_token(store, study) == before
    bundle.delete(store, case_prefix("key2"))
    after = prepared_token(store, study)
    assert after != before
    study_in(store)
    assert prepared_token(store, study) == after


def test_a_run_that_ended_halfway_leaves_no_token() -> None:
    store = MemoryStore()
    study = study_in(store)
    bundle.delete(store, case_prefix("key1"))
    assert prepared_token(store, study) != prepared_token(store, study)


def test_an_emptied_store_has_another_token() -> None:
    tokens = set()
    for store in (MemoryStore(), MemoryStore()):
        tokens.add(prepared_token(store, study_in(store)))
    assert len(tokens) == 2


def test_the_token_of_the_results_stays_while_nothing_changes(
    finished: tuple[ObjectStore, Study],
) -> None:
    store, study = copy_of(finished[0]), finished[1]
    token = results_token(store, study)
    assert results_token(store, study) == token


@pytest.mark.parametrize(
    "lost",
    [
        lambda weights, _study: prediction_prefix(weights, "key2") + bundle.MANIFEST,
        lambda weights, _study: segmentation_prefix(weights, "key2") + bundle.MANIFEST,
        lambda _weights, study: facts.disagreement_key(study),
        lambda _weights, study: facts.evaluation_key(study),
        lambda _weights, study: facts.report_page_key(study),
    ],
    ids=["prediction", "segmentation", "disagreement", "evaluation", "report"],
)
def test_the_token_of_the_results_changes_when_one_is_lost(
    lost: Callable[[str, str], str], finished: tuple[ObjectStore, Study]
) -> None:
    store, study = copy_of(finished[0]), finished[1]
    token = results_token(store, study)
    key = lost(facts.ended_arms(store, study.id)["baseline"], study.id)
    assert key in store.keys("")
    store.delete(key)
    assert results_token(store, study) != token


def test_the_token_of_the_results_changes_with_what_a_report_shows(
    finished: tuple[ObjectStore, Study],
) -> None:
    store, study = copy_of(finished[0]), finished[1]
    token = results_token(store, study)
    store.put(facts.failure_key(study.id, 0, 1, 1), b"{}")
    after = results_token(store, study)
    assert after != token
    # A heartbeat is written all the time; no report shows it.
    store.put(facts.heartbeat_key(study.id), b"{}")
    assert results_token(store, study) == after
