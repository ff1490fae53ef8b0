import json
from collections.abc import Callable

import pytest

from liverseg.errors import SettingsError, StudyError
from liverseg.race.audit import replay
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.study import Study, load_study
from liverseg.settings import from_mapping
from liverseg.steps.race import race
from liverseg.steps.study import extend
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from tests.steps.tiny_study import SETTINGS, InThisProcess, study_in


def settings(seeds: int, maximum: int = 12):
    schedule = {"seeds": seeds, "minimum_iterations": 3, "maximum_iterations": maximum}
    return from_mapping({"race": schedule}, SETTINGS)


def raced(store: MemoryStore, study: Study) -> tuple[InThisProcess, dict]:
    executor = InThisProcess(store)
    return executor, race.run(store, executor, study, "baseline", Capacity(4, True))


def from_the_start(seeds: int, maximum: int = 12) -> dict:
    store = MemoryStore()
    return raced(store, study_in(store, settings(seeds, maximum)))[1]


def essence(status: dict) -> list:
    return [status["winner"], status["baseline"], [r["promoted"] for r in status["rungs"]]]


# Each begins with a race of four trainings.
pytestmark = pytest.mark.slow


@pytest.fixture
def store() -> MemoryStore:
    memory = MemoryStore()
    raced(memory, study_in(memory, settings(4)))
    return memory


def parent_of(store: MemoryStore) -> str:
    (study,) = {key.split("/")[1] for key in store.keys("studies/")}
    return study


def test_more_seeds_end_as_a_race_that_had_them_from_the_start(store: MemoryStore) -> None:
    parent = parent_of(store)
    extension = extend.run(store, parent, seeds=8)
    assert json.loads(json.dumps(extension)) == extension
    assert (extension["parent"], extension["new_seeds"], extension["retrained"]) == (parent, 4, [])
    child = load_study(store, extension["study"])
    executor, status = raced(store, child)
    assert essence(status) == essence(from_the_start(8))
    # What the parent has trained is not trained again: no old seed runs to a rung it reported at.
    again = {name.split("-")[3] for name in executor.states() if "-r0-" in name}
    assert again == {f"s{seed:04d}" for seed in range(4, 8)}
    assert list(replay.replay(store, child.id).findings) == []


def test_longer_trainings_go_on_from_the_winner(store: MemoryStore) -> None:
    extension = extend.run(store, parent_of(store), maximum_iterations=24)
    executor, status = raced(store, load_study(store, extension["study"]))
    assert essence(status) == essence(from_the_start(4, 24))
    assert sorted(name.split("-", 3)[3] for name in executor.states()) == [
        f"s{status['winner']['seed']:04d}-r3-a0",
        "s9999-baseline-a0",
    ]


@pytest.mark.slow
def test_a_taking_over_that_was_cut_short_is_finished_by_the_next(store: MemoryStore) -> None:
    before, parent, first = dict(store.objects), parent_of(store), store.writes
    whole = extend.run(store, parent, seeds=8)
    expected = {k: v for k, v in store.objects.items() if not k.endswith("spec.json")}
    for writes in range(0, store.writes - first, 3):
        store.objects = dict(before)
        store.before_write = cut_after(store.writes + writes)
        with pytest.raises(Cut):
            extend.run(store, parent, seeds=8)
        store.before_write = None
        assert facts.spec_key(whole["study"]) not in store.objects
        assert extend.run(store, parent, seeds=8) == whole
        assert {k: v for k, v in store.objects.items() if not k.endswith("spec.json")} == expected


class Cut(Exception):
    pass


def cut_after(writes: int) -> Callable[[int, str], None]:
    def cut(number: int, _key: str) -> None:
        if number >= writes:
            raise Cut

    return cut


def test_a_seed_whose_checkpoint_was_collected_is_named_and_trained_again(
    store: MemoryStore,
) -> None:
    parent = parent_of(store)
    pruned = race.status(store, parent)["rungs"][0]["pruned"][0]
    for saved in facts.checkpoints(store, parent, pruned):
        for key in store.keys(saved.prefix):
            store.delete(key)
    extension = extend.run(store, parent, seeds=8)
    assert extension["retrained"] == [{"seed": pruned, "reached": 3, "from": 0}]
    status = raced(store, load_study(store, extension["study"]))[1]
    assert essence(status) == essence(from_the_start(8))


def test_nothing_becomes_smaller_and_something_has_to_grow(store: MemoryStore) -> None:
    parent = parent_of(store)
    with pytest.raises(SettingsError, match=r"race.seeds \(2\) must not be below .*\(4\)"):
        extend.run(store, parent, seeds=2)
    with pytest.raises(SettingsError, match="nothing to extend"):
        extend.run(store, parent, seeds=4)
    with pytest.raises(StudyError, match="no study 'nobody'"):
        extend.run(store, "nobody", seeds=8)


def test_the_parent_is_left_as_it_was(store: MemoryStore) -> None:
    parent = parent_of(store)
    before = {k: v for k, v in store.objects.items() if k.startswith(f"studies/{parent}/")}
    raced(store, load_study(store, extend.run(store, parent, seeds=8)["study"]))
    after = {k: v for k, v in store.objects.items() if k.startswith(f"studies/{parent}/")}
    assert after == before
    assert bundle.exists(store, facts.model_prefix(parent))
