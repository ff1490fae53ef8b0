from collections.abc import Callable

import pytest

from liverseg.race.records import facts
from liverseg.race.records.key_forms import FAILURE, key_of
from liverseg.race.records.study import Study
from liverseg.steps.cache_token import results_token
from liverseg.steps.data.cases import prediction_prefix, segmentation_prefix
from liverseg.steps.results import evaluate, result_keys
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore
from tests.steps.tiny_study import finished_study

REPORT = b"<html></html>"


@pytest.fixture(scope="module")
def finished() -> tuple[ObjectStore, Study]:
    store, study = finished_study()
    evaluate.run(store, study)
    store.put(result_keys.report_page_key(study.id), REPORT)
    return store, study


def copy_of(store: ObjectStore) -> MemoryStore:
    other = MemoryStore()
    for key in store.keys(""):
        other.put(key, store.get(key))
    return other


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
        lambda _weights, study: result_keys.disagreement_key(study),
        lambda _weights, study: result_keys.evaluation_key(study),
        lambda _weights, study: result_keys.report_page_key(study),
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
    store.put(key_of(FAILURE, study.id, rung=0, seed=1, attempt=1), b"{}")
    after = results_token(store, study)
    assert after != token
    # A heartbeat is written all the time; no report shows it.
    store.put(facts.heartbeat_key(study.id), b"{}")
    assert results_token(store, study) == after


@pytest.mark.parametrize("damaged", [b"[]", b"{", b'{"inputs": 1, "token": "x"}', None])
def test_a_damaged_token_is_drawn_anew(
    damaged: bytes | None, finished: tuple[ObjectStore, Study]
) -> None:
    store, study = copy_of(finished[0]), finished[1]
    token = results_token(store, study)
    (key,) = (key for key in store.keys("") if "/cache-tokens/" in key)
    if damaged is None:
        issued = record.read(store, key)
        del issued["token"]
        record.write(store, key, issued)
    else:
        store.put(key, damaged)
    after = results_token(store, study)
    assert after != token
    assert results_token(store, study) == after
